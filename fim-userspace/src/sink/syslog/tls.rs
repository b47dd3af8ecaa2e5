//! TLS for syslog (RFC 5425): the server's certificate and name are always checked.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore};

use crate::config::TlsFiles;
use crate::core::path::display;
use crate::sink::line::printable;

/// How long a server may take to refuse our certificate.
const REFUSAL: Duration = Duration::from_secs(1);

pub(super) struct Client {
    connector: TlsConnector,
    /// The server may refuse the certificate that fim shows, after the handshake.
    shows_certificate: bool,
}

impl Client {
    pub fn new(files: &TlsFiles) -> Result<Self, String> {
        // The one that the webhooks' client has as well.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots(files.ca.as_deref())?);
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert)?;
                let key = key.read().map_err(|e| e.to_string())?;
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                    .map_err(|_| "client_key holds no private key in PEM".to_owned())?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| format!("client_cert and client_key cannot be used: {e}"))?
            }
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            shows_certificate: files.client.is_some(),
        })
    }

    pub async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| format!("cannot be a server's name: {e}"))?;
        let failed = |e: io::Error| format!("no TLS connection: {}", printable(&e.to_string()));
        let mut stream = self.connector.connect(name, tcp).await.map_err(failed)?;
        if self.shows_certificate && stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            first_word(&mut stream).await.map_err(failed)?;
        }
        Ok(stream)
    }
}

/// In TLS 1.3 the client is done before the server has looked at its certificate, and a refusal would swallow what was
/// sent meanwhile. Waits for the server's first message after the handshake, which most send, or the refusal.
async fn first_word(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let word = std::future::poll_fn(|cx| {
        let mut space = [0; 256];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    match tokio::time::timeout(REFUSAL, word).await {
        Ok(result) => result,
        Err(_) => Ok(()),
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|e| format!("{} holds no usable authority: {e}", display(file)))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(
                    "this system has no CA certificates; install ca-certificates or set ca_file".into()
                );
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = display(file);
    let failed = |e: &dyn std::fmt::Display| format!("cannot read certificates from {shown}: {e}");
    let pem = std::fs::read(file).map_err(|e| failed(&e))?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| failed(&e))?;
    match found.is_empty() {
        true => Err(format!("{shown} holds no certificate in PEM")),
        false => Ok(found),
    }
}
