//! Why a key, certificate or token could not be made, read or believed.

use std::path::PathBuf;

/// What went wrong, with the file or object concerned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the PKI directory cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file of the PKI directory is there without its twin.
    #[error("{} is missing although {} exists; restore it or remove both to start with a new authority", missing.display(), present.display())]
    HalfPair {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A certificate or key could not be generated, parsed or signed.
    #[error("certificate of {subject}: {source}")]
    Certificate {
        /// Common name, or the file that was read.
        subject: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// PEM text holds no usable item.
    #[error("no {what} in PEM text")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// rustls refused the settings.
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    /// The set of client authorities is unusable.
    #[error("client certificate authority: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// A token could not be signed.
    #[error("signing a token: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// A token is not ours, is malformed or has run out; the text is safe to show.
    #[error("invalid bearer token: {0}")]
    Token(String),
}
