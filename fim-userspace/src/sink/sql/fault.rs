//! What can go wrong with a server, by what follows from it.

/// Each text is a sentence for the administrator, without the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no connection, or it is gone.
    #[error("{0}")]
    Lost(String),
    /// The server undid the transaction because of another one; it can simply be made again.
    #[error("{0}")]
    Again(String),
    /// The server, or this host's own database, said no.
    #[error("{0}")]
    Refused(String),
}
