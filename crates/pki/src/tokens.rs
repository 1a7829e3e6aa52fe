//! ServiceAccount tokens: JSON Web Tokens (RFC 7519) signed with ES256, with the claims of
//! Kubernetes' bound tokens (KEP-1205).
//!
//! Who a token speaks for is checked here; whether its ServiceAccount and pod still exist is
//! for the caller to check, who knows the cluster.

use std::sync::{Arc, Once};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, new_error};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// Longest token that is looked at, in bytes; a longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Clock difference forgiven when times are checked, in seconds.
const LEEWAY_S: u64 = 10;

/// An object that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundObject {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// The ServiceAccount.
    pub serviceaccount: BoundObject,
    /// The pod that the token dies with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundObject>,
    /// The node that the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundObject>,
    /// The Secret that the token dies with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundObject>,
}

/// All claims of a token. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// Whom the token is for.
    pub aud: Vec<String>,
    /// End of validity.
    pub exp: i64,
    /// Issued at.
    pub iat: i64,
    /// Start of validity.
    pub nbf: i64,
    /// Unique id of the token.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
}

/// What a token is asked for.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// Whom it is bound to.
    pub kubernetes: KubernetesClaims,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// How long it is valid, in seconds.
    pub ttl_s: i64,
    /// Unique id (a UUID).
    pub id: String,
}

/// Signs tokens. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    key: Arc<EncodingKey>,
    key_id: String,
    issuer: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(key_pem: &str, issuer: &str) -> Result<Self, Error> {
        install_provider();
        let pair = parse_key(key_pem)?;
        Ok(Self {
            key: Arc::new(EncodingKey::from_ec_der(&pair.serialize_der())),
            key_id: key_id(&pair),
            issuer: issuer.to_owned(),
        })
    }

    /// The issuer that it puts into tokens; also the API server's default audience.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs a token that is valid from `now_s` (Unix seconds) on.
    ///
    /// # Errors
    /// When the cryptography library refuses the key.
    pub fn issue(&self, spec: TokenSpec, now_s: i64) -> Result<(String, Claims), Error> {
        let TokenSpec { kubernetes, audiences, ttl_s, id } = spec;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: format!("system:serviceaccount:{}:{}", kubernetes.namespace, kubernetes.serviceaccount.name),
            aud: audiences,
            exp: now_s.saturating_add(ttl_s),
            iat: now_s,
            nbf: now_s,
            jti: id,
            kubernetes,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        header.typ = None;
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(Error::Sign)?;
        Ok((token, claims))
    }
}

/// Believes or refuses tokens. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    key: Arc<DecodingKey>,
    issuer: String,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(crate) fn new(key_pem: &str, issuer: &str) -> Result<Self, Error> {
        install_provider();
        let pair = parse_key(key_pem)?;
        Ok(Self { key: Arc::new(DecodingKey::from_ec_der(pair.der_bytes())), issuer: issuer.to_owned() })
    }

    /// Checks signature, issuer and times at `now_s` (Unix seconds), and that the token is
    /// for one of `audiences`.
    ///
    /// # Errors
    /// [`Error::Token`] with a reason that is safe to show to the caller.
    pub fn verify(&self, token: &str, audiences: &[&str], now_s: i64) -> Result<Claims, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Token(format!("longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&self.issuer]);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &validation)
            .map_err(|e| Error::Token(e.to_string()))?
            .claims;
        let leeway = i64::try_from(LEEWAY_S).unwrap_or(0);
        if now_s > claims.exp.saturating_add(leeway) {
            return Err(Error::Token("token has expired".into()));
        }
        if now_s.saturating_add(leeway) < claims.nbf {
            return Err(Error::Token("token is not valid yet".into()));
        }
        if !claims.aud.iter().any(|a| audiences.contains(&a.as_str())) {
            return Err(Error::Token("token audiences do not include this server".into()));
        }
        Ok(claims)
    }
}

fn parse_key(pem: &str) -> Result<KeyPair, Error> {
    KeyPair::from_pem(pem)
        .map_err(|source| Error::Certificate { subject: "service account key".into(), source })
}

/// Key id as kube-apiserver derives it: SHA-256 over the public key's SubjectPublicKeyInfo.
fn key_id(pair: &KeyPair) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()))
}

/// jsonwebtoken leaves cryptography to its host; ours is ring, and only ES256.
fn install_provider() {
    static ONCE: Once = Once::new();
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: new_signer,
        verifier_factory: new_verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };
    ONCE.call_once(|| {
        // An error only says that a provider is there already.
        let _ = PROVIDER.install_default();
    });
}

fn new_signer(algorithm: &Algorithm, key: &EncodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::ES256 {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &SystemRandom::new())
            .map_err(|_| new_error(ErrorKind::InvalidEcdsaKey))?;
    Ok(Box::new(Es256Signer(pair)))
}

fn new_verifier(
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::ES256 {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(Es256Verifier(key.try_get_as_bytes()?.to_vec())))
}

struct Es256Signer(EcdsaKeyPair);

impl signature::Signer<Vec<u8>> for Es256Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let signed = self.0.sign(&SystemRandom::new(), message).map_err(|_| signature::Error::new())?;
        Ok(signed.as_ref().to_vec())
    }
}

impl JwtSigner for Es256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

struct Es256Verifier(Vec<u8>);

impl signature::Verifier<Vec<u8>> for Es256Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Es256Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pki;

    const NOW: i64 = 1_800_000_000;

    fn spec() -> TokenSpec {
        TokenSpec {
            kubernetes: KubernetesClaims {
                namespace: "default".into(),
                serviceaccount: BoundObject { name: "builder".into(), uid: "u1".into() },
                pod: Some(BoundObject { name: "p".into(), uid: "u2".into() }),
                node: None,
                secret: None,
            },
            audiences: vec!["api".into()],
            ttl_s: 600,
            id: "id-1".into(),
        }
    }

    fn pair() -> (Signer, Verifier) {
        let pki = Pki::load_or_create(None).unwrap();
        (pki.token_signer("https://k").unwrap(), pki.token_verifier("https://k").unwrap())
    }

    #[test]
    fn a_signed_token_is_believed() {
        let (signer, verifier) = pair();
        let (token, claims) = signer.issue(spec(), NOW).unwrap();
        assert_eq!(verifier.verify(&token, &["api"], NOW + 599).unwrap(), claims);
        assert_eq!(claims.sub, "system:serviceaccount:default:builder");
    }

    #[test]
    fn wrong_tokens_are_refused() {
        let (signer, verifier) = pair();
        let (other, _) = pair();
        let (token, _) = signer.issue(spec(), NOW).unwrap();
        let (foreign, _) = other.issue(spec(), NOW).unwrap();
        let (header, rest) = token.split_once('.').unwrap();
        let (payload, _) = rest.split_once('.').unwrap();
        let none = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#));
        let hmac = format!("{}.{payload}.AAAA", URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#));
        let unsigned = format!("{header}.{payload}.");
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        let cases: &[(&str, &str, &[&str], i64)] = &[
            ("expired", &token, &["api"], NOW + 611),
            ("not yet valid", &token, &["api"], NOW - 60),
            ("other audience", &token, &["web"], NOW),
            ("other key", &foreign, &["api"], NOW),
            ("alg none", &none, &["api"], NOW),
            ("alg hmac", &hmac, &["api"], NOW),
            ("no signature", &unsigned, &["api"], NOW),
            ("garbage", "a.b.c", &["api"], NOW),
            ("too long", &long, &["api"], NOW),
        ];
        for (name, token, audiences, now) in cases {
            assert!(verifier.verify(token, audiences, *now).is_err(), "{name}");
        }
    }
}
