//! Descriptor-relative access to watched trees. Nothing here follows a path twice.
