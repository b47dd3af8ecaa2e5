//! An authority and what it signs, made for one test.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use super::*;

pub struct Authority {
    dir: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

/// Paths of a certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "fim test authority");
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("written");
        Self { dir, issuer: rcgen::Issuer::new(params, key) }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs a certificate for `names`, host names or addresses.
    pub fn sign(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let file = |end: &str| self.dir.path().join(format!("{}.{end}", names[0]));
        let (certificate_file, key_file) = (file("pem"), file("key"));
        let mut params = CertificateParams::new(names.clone()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(&certificate_file, certificate.pem()).expect("written");
        std::fs::write(&key_file, key.serialize_pem()).expect("written");
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        Pair { certificate: certificate_file, key: key_file }
    }
}
