//! TLS settings made of the cluster's certificates. Versions 1.2 and 1.3, ring only.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Credential, Error};

/// Settings of a server that shows `credential`. With `client_ca_pem`, client certificates
/// are asked for, may be absent, and must chain to that authority when present.
/// Offers HTTP/2 and HTTP/1.1 by ALPN.
///
/// # Errors
/// When the PEM texts hold no certificate or key, or rustls refuses them.
pub fn server(credential: &Credential, client_ca_pem: Option<&str>) -> Result<ServerConfig, Error> {
    let (chain, key) = parts(credential)?;
    let provider = provider();
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
                .allow_unauthenticated()
                .build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Settings of a server that refuses every client without a certificate of `client_ca_pem`,
/// for peers. No ALPN.
///
/// # Errors
/// As [`server`].
pub fn mutual_server(credential: &Credential, client_ca_pem: &str) -> Result<ServerConfig, Error> {
    let (chain, key) = parts(credential)?;
    let provider = provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pem)?), provider.clone())
            .build()?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?)
}

/// Settings of a client that believes `ca_pem` and, if given, proves itself with `credential`.
///
/// # Errors
/// As [`server`].
pub fn client(credential: Option<&Credential>, ca_pem: &str) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_pem)?);
    match credential {
        Some(credential) => {
            let (chain, key) = parts(credential)?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Common name and organisations of a certificate that TLS has verified already: in
/// Kubernetes, the user and its groups. `None` when it has no common name.
#[must_use]
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
    let subject = parsed.subject();
    let cn = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let orgs = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    (!cn.is_empty()).then_some((cn, orgs))
}

/// The one cryptography provider of the process. Call [`install`] early so that libraries
/// that look for a default find the same.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes ring the process's default for libraries that build their own settings.
/// Harmless when called again.
pub fn install() {
    // An error only says that a default is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn roots(ca_pem: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        store.add(cert.map_err(|_| Error::Pem { what: "CA certificate" })?)?;
    }
    if store.is_empty() {
        return Err(Error::Pem { what: "CA certificate" });
    }
    Ok(store)
}

fn parts(credential: &Credential) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = CertificateDer::pem_slice_iter(credential.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::Pem { what: "certificate" })?;
    let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes())
        .map_err(|_| Error::Pem { what: "private key" })?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertRequest, Pki, Usage};
    use rustls::pki_types::ServerName;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    fn server_credential(pki: &Pki) -> Credential {
        pki.issue(&CertRequest {
            cn: "server".into(),
            org: None,
            sans: vec!["localhost".into(), "127.0.0.1".into()],
            usage: Usage::Server,
        })
        .unwrap()
    }

    async fn handshake(server: ServerConfig, client: ClientConfig) -> (bool, Option<usize>) {
        let (a, b) = tokio::io::duplex(64 * 1024);
        let accept = TlsAcceptor::from(Arc::new(server)).accept(a);
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let connect = connector.connect(name, b);
        let (accepted, connected) = tokio::join!(accept, connect);
        let certs = accepted.as_ref().ok().map(|s| s.get_ref().1.peer_certificates().map_or(0, <[_]>::len));
        (connected.is_ok(), certs)
    }

    #[tokio::test]
    async fn client_certificates_are_optional_but_must_be_ours() {
        let pki = Pki::load_or_create(None).unwrap();
        let other = Pki::load_or_create(None).unwrap();
        let serve = || server(&server_credential(&pki), Some(pki.ca_pem())).unwrap();
        let cred = pki.issue(&CertRequest::client("u", None)).unwrap();
        let foreign = other.issue(&CertRequest::client("u", None)).unwrap();

        assert_eq!(handshake(serve(), client(None, pki.ca_pem()).unwrap()).await, (true, Some(0)));
        assert_eq!(handshake(serve(), client(Some(&cred), pki.ca_pem()).unwrap()).await, (true, Some(1)));
        let (_, accepted) = handshake(serve(), client(Some(&foreign), pki.ca_pem()).unwrap()).await;
        assert_eq!(accepted, None);
    }

    #[tokio::test]
    async fn a_server_certificate_proves_no_client() {
        let pki = Pki::load_or_create(None).unwrap();
        let serve = server(&server_credential(&pki), Some(pki.ca_pem())).unwrap();
        let misused = server_credential(&pki);
        let (_, accepted) = handshake(serve, client(Some(&misused), pki.ca_pem()).unwrap()).await;
        assert_eq!(accepted, None);
    }

    #[tokio::test]
    async fn peers_without_a_certificate_are_refused() {
        let pki = Pki::load_or_create(None).unwrap();
        let serve = mutual_server(&server_credential(&pki), pki.ca_pem()).unwrap();
        let (_, accepted) = handshake(serve, client(None, pki.ca_pem()).unwrap()).await;
        assert_eq!(accepted, None);
    }
}
