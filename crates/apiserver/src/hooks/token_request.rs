//! TokenRequest (`serviceaccounts/<name>/token`): a token for a ServiceAccount, bound to it
//! and, if asked, to a pod, secret or node (KEP-1205).

use coracle_api::field::FieldError;
use coracle_api::meta;
use coracle_api::status::Status;
use coracle_api::time;
use coracle_pki::tokens::{BoundObject, KubernetesClaims, TokenSpec};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::AUTHENTICATION;
use crate::config::{Config, TOKEN_TTL_S};
use crate::internal::{self, At};
use crate::registry::Registry;
use crate::request::RequestInfo;

/// Shortest life of a token, in seconds (kube-apiserver's limit); a shorter one is refused.
const TTL_S_MIN: i64 = 600;
/// Longest life of a token, in seconds; a longer one is refused.
const TTL_S_MAX: i64 = 1 << 32;

/// Signs the token that is asked for.
///
/// # Errors
/// 404 when the ServiceAccount or the bound object is not there, 409 when its uid is
/// another, 400 or 422 when the request cannot be granted as it is.
pub(super) async fn answer(
    config: &Config,
    registry: &Registry,
    info: &RequestInfo,
    request: &Value,
) -> Result<Value, Status> {
    let namespace = info.namespace.as_deref().unwrap_or_default();
    let name = info.name.as_deref().unwrap_or_default();
    let account = internal::get(registry, At::core("serviceaccounts").within(namespace).named(name)).await?;
    check_identity(request, namespace, name)?;
    let spec = request.get("spec").unwrap_or(&Value::Null);
    let ttl_s = ttl(spec)?;
    let mut audiences: Vec<String> = spec
        .get("audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(config.token_signer.issuer().to_owned());
    }
    let bound_ref = spec.get("boundObjectRef").filter(|reference| !reference.is_null());
    let mut claims = KubernetesClaims {
        namespace: namespace.to_owned(),
        serviceaccount: BoundObject { name: name.to_owned(), uid: meta::uid(&account).to_owned() },
        pod: None,
        node: None,
        secret: None,
    };
    if let Some(reference) = bound_ref {
        bind(&mut claims, registry, reference).await?;
    }
    let now = Timestamp::now();
    let token_spec = TokenSpec {
        kubernetes: claims,
        audiences: audiences.clone(),
        ttl_s,
        id: uuid::Uuid::new_v4().to_string(),
    };
    let (token, claims) = config.token_signer.issue(token_spec, now.as_second()).map_err(Status::internal)?;
    let expires = Timestamp::from_second(claims.exp).map_err(Status::internal)?;
    Ok(json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": time::seconds(now) },
        "spec": { "audiences": audiences, "expirationSeconds": ttl_s, "boundObjectRef": bound_ref },
        "status": { "token": token, "expirationTimestamp": time::seconds(expires) },
    }))
}

fn check_identity(request: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let told = meta::name(request);
    if !told.is_empty() && told != name {
        let why = format!("the name of the object ({told}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(why));
    }
    let told = meta::namespace(request);
    if !told.is_empty() && told != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    Ok(())
}

fn ttl(spec: &Value) -> Result<i64, Status> {
    let ttl_s = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(TOKEN_TTL_S);
    let why = if ttl_s < TTL_S_MIN {
        "may not specify a duration less than 10 minutes"
    } else if ttl_s > TTL_S_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(ttl_s);
    };
    let error = FieldError::invalid("spec.expirationSeconds", ttl_s, why);
    Err(Status::invalid(AUTHENTICATION, "TokenRequest", "", vec![error]))
}

/// Binds the token to the object that `reference` names, which must exist.
async fn bind(claims: &mut KubernetesClaims, registry: &Registry, reference: &Value) -> Result<(), Status> {
    let kind = meta::text(reference, "kind");
    let (api_version, name) = (meta::text(reference, "apiVersion"), meta::text(reference, "name"));
    let namespace = claims.namespace.clone();
    let at = match (api_version, kind) {
        ("v1", "Pod") => At::core("pods").within(&namespace).named(name),
        ("v1", "Secret") => At::core("secrets").within(&namespace).named(name),
        ("v1", "Node") => At::core("nodes").named(name),
        _ => {
            let why = format!("cannot bind token to object of type {api_version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let object = internal::get(registry, at).await?;
    let (uid, told) = (meta::uid(&object), meta::text(reference, "uid"));
    if !told.is_empty() && told != uid {
        let why = format!(
            "the UID in the bound object reference ({told}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", at.plural, name, why));
    }
    let bound = Some(BoundObject { name: name.to_owned(), uid: uid.to_owned() });
    match kind {
        "Pod" => {
            let account =
                object.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
            if account != claims.serviceaccount.name {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    claims.serviceaccount.name
                );
                return Err(Status::bad_request(why));
            }
            claims.pod = bound;
            claims.node = node_of(registry, &object).await;
        }
        "Secret" => claims.secret = bound,
        _ => claims.node = bound,
    }
    Ok(())
}

/// The node that a pod is on, told in the token for the benefit of its readers.
async fn node_of(registry: &Registry, pod: &Value) -> Option<BoundObject> {
    let name = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|name| !name.is_empty())?;
    let node = internal::get(registry, At::core("nodes").named(name)).await.ok();
    let uid = node.as_ref().map(meta::uid).unwrap_or_default().to_owned();
    Some(BoundObject { name: name.to_owned(), uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_bounded() {
        assert_eq!(ttl(&json!({})).unwrap(), TOKEN_TTL_S);
        assert_eq!(ttl(&json!({"expirationSeconds": 600})).unwrap(), 600);
        assert_eq!(ttl(&json!({"expirationSeconds": 599})).unwrap_err().code, 422);
        assert_eq!(ttl(&json!({"expirationSeconds": TTL_S_MAX + 1})).unwrap_err().code, 422);
    }

    #[test]
    fn the_body_may_not_name_another_account() {
        assert!(check_identity(&json!({}), "n", "a").is_ok());
        assert!(check_identity(&json!({"metadata": {"name": "a", "namespace": "n"}}), "n", "a").is_ok());
        assert!(check_identity(&json!({"metadata": {"name": "b"}}), "n", "a").is_err());
        assert!(check_identity(&json!({"metadata": {"namespace": "m"}}), "n", "a").is_err());
    }
}
