//! Whom to believe that a server is what it says: one authority of the administrator's choice, or the system's.

use std::path::Path;
use std::sync::Arc;

use mysql_async::SslOpts;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::core::path::display;

pub struct Tls {
    authorities: Vec<CertificateDer<'static>>,
    config: ClientConfig,
}

impl Tls {
    /// With `file` (PEM) only the authorities in it are believed. Fails with a sentence.
    pub fn new(file: Option<&Path>) -> Result<Self, String> {
        let authorities = match file {
            Some(file) => from_file(file)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(authorities.iter().cloned());
        if good == 0 {
            return Err(match file {
                Some(file) => format!("{} holds no certificate that can be read", display(file)),
                None => {
                    "the system has no CA certificates; install ca-certificates or set tls_ca_file".into()
                }
            });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { authorities, config })
    }

    pub fn client_config(&self) -> ClientConfig {
        self.config.clone()
    }

    pub fn ssl_opts(&self) -> SslOpts {
        let roots = self.authorities.iter().map(|der| der.to_vec().into()).collect();
        SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots)
    }
}

fn from_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(file).map_err(|e| {
        format!("cannot read tls_ca_file {}: {e}; put the authority's certificate there", display(file))
    })?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("tls_ca_file {} is not PEM: {e}", display(file)))
}
