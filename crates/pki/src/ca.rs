//! The certificate authority and what it signs.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::Error;
use crate::tokens::{Signer, Verifier};

/// How long the authority's certificate is valid, in days (ten years, as kubeadm's).
const CA_DAYS: i64 = 3653;
/// How long a component's certificate is valid, in days. Certificates are made anew at every
/// start, so this bounds the longest uninterrupted run.
const LEAF_DAYS: i64 = 365;
/// Clock difference between machines that a new certificate forgives, in minutes.
const SKEW_MINUTES: i64 = 5;

/// What a certificate may be used for (RFC 5280 extended key usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Proving who a client is.
    Client,
    /// Serving TLS.
    Server,
    /// Either, as peers need.
    Both,
}

/// Whom a certificate is for. Kubernetes reads the common name as user name and the
/// organisation as group.
#[derive(Debug, Clone)]
pub struct CertRequest {
    /// Common name: the user.
    pub cn: String,
    /// Organisation: the group. At most one, since rcgen writes no more.
    pub org: Option<String>,
    /// Host names and IP addresses that a server answers to.
    pub sans: Vec<String>,
    /// What it may be used for.
    pub usage: Usage,
}

impl CertRequest {
    /// A client certificate of user `cn` in group `org`.
    #[must_use]
    pub fn client(cn: &str, org: Option<&str>) -> Self {
        Self { cn: cn.to_owned(), org: org.map(str::to_owned), sans: Vec::new(), usage: Usage::Client }
    }
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Credential {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// The cluster's authority and its token key.
pub struct Pki {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    token_key_pem: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads `ca.crt`, `ca.key` and `sa.key` from `dir`, and makes what is not there.
    /// Without a directory everything stays in memory.
    ///
    /// # Errors
    /// When a file cannot be read, written or parsed, or one of a pair is missing.
    pub fn load_or_create(dir: Option<&Path>) -> Result<Self, Error> {
        let Some(dir) = dir else {
            let (ca_pem, key) = new_ca()?;
            return Self::assemble(ca_pem, key, new_key("service account key")?.serialize_pem());
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| io("create", dir, source))?;
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        let (ca_pem, key) = match (cert_path.exists(), key_path.exists()) {
            (true, true) => {
                let key = KeyPair::from_pem(&read(&key_path)?)
                    .map_err(|source| certificate(&key_path.display().to_string(), source))?;
                (read(&cert_path)?, key)
            }
            (false, false) => {
                let (ca_pem, key) = new_ca()?;
                write_private(&key_path, &key.serialize_pem())?;
                write_private(&cert_path, &ca_pem)?;
                (ca_pem, key)
            }
            (true, false) => return Err(Error::HalfPair { present: cert_path, missing: key_path }),
            (false, true) => return Err(Error::HalfPair { present: key_path, missing: cert_path }),
        };
        let token_path = dir.join("sa.key");
        let token_key_pem = if token_path.exists() {
            read(&token_path)?
        } else {
            let pem = new_key("service account key")?.serialize_pem();
            write_private(&token_path, &pem)?;
            pem
        };
        Self::assemble(ca_pem, key, token_key_pem)
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Signs a certificate with a new key.
    ///
    /// # Errors
    /// When a host name is not one.
    pub fn issue(&self, request: &CertRequest) -> Result<Credential, Error> {
        let failed = |source| certificate(&request.cn, source);
        let key = new_key(&request.cn)?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, LEAF_DAYS);
        params.serial_number = Some(random_serial());
        params.distinguished_name = DistinguishedName::new();
        if let Some(org) = &request.org {
            params.distinguished_name.push(DnType::OrganizationName, org.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, request.cn.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => {
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]
            }
        };
        params.use_authority_key_identifier_extension = true;
        for san in &request.sans {
            params.subject_alt_names.push(match san.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(san.as_str().try_into().map_err(failed)?),
            });
        }
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Credential { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs ServiceAccount tokens for `issuer` (the `iss` claim).
    ///
    /// # Errors
    /// When the key file holds no P-256 key.
    pub fn token_signer(&self, issuer: &str) -> Result<Signer, Error> {
        Signer::new(&self.token_key_pem, issuer)
    }

    /// Believes tokens that [`Pki::token_signer`] signed.
    ///
    /// # Errors
    /// When the key file holds no P-256 key.
    pub fn token_verifier(&self, issuer: &str) -> Result<Verifier, Error> {
        Verifier::new(&self.token_key_pem, issuer)
    }

    fn assemble(ca_pem: String, key: KeyPair, token_key_pem: String) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).map_err(|e| certificate("the authority", e))?;
        Ok(Self { ca_pem, issuer, token_key_pem })
    }
}

fn new_ca() -> Result<(String, KeyPair), Error> {
    let key = new_key("coracle-ca")?;
    let mut params = CertificateParams::default();
    set_validity(&mut params, CA_DAYS);
    params.serial_number = Some(random_serial());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "coracle-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(|source| certificate("coracle-ca", source))?;
    Ok((cert.pem(), key))
}

fn new_key(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|source| certificate(subject, source))
}

fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(SKEW_MINUTES);
    params.not_after = now + Duration::days(days);
}

/// 127 random bits: unguessable, and positive as RFC 5280 wants serial numbers.
fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| io("read", path, source))
}

/// Writes a file of mode 0600 so that it is whole or absent after a crash.
fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| io("write", path, source))
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { action, path: PathBuf::from(path), source }
}

fn certificate(subject: &str, source: rcgen::Error) -> Error {
    Error::Certificate { subject: subject.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    #[test]
    fn identity_of_an_issued_certificate_is_its_subject() {
        let pki = Pki::load_or_create(None).unwrap();
        let cred = pki.issue(&CertRequest::client("system:node:a", Some("system:nodes"))).unwrap();
        let der = CertificateDer::from_pem_slice(cred.cert_pem.as_bytes()).unwrap();
        let (cn, orgs) = tls::peer_identity(&der).unwrap();
        assert_eq!(cn, "system:node:a");
        assert_eq!(orgs, ["system:nodes"]);
    }

    #[test]
    fn a_second_load_gives_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create(Some(dir.path())).unwrap();
        let second = Pki::load_or_create(Some(dir.path())).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.token_key_pem, second.token_key_pem);
    }

    #[test]
    fn keys_are_private_files() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(Some(dir.path())).unwrap();
        for name in ["ca.key", "sa.key"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn half_a_pair_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(Some(dir.path())).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Pki::load_or_create(Some(dir.path())).unwrap_err();
        assert!(matches!(error, Error::HalfPair { .. }), "{error}");
    }

    #[test]
    fn a_key_that_is_not_pem_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(Some(dir.path())).unwrap();
        fs::write(dir.path().join("ca.key"), "not a key").unwrap();
        let error = Pki::load_or_create(Some(dir.path())).unwrap_err();
        assert!(error.to_string().contains("ca.key"), "{error}");
    }
}
