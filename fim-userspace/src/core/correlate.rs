//! From observations to looks: which paths must be compared, and who was there.
