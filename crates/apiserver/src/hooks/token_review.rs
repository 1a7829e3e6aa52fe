//! TokenReview: whose token is this?

use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::authn::{Tokens, user_of};
use crate::config::Config;

/// The review of a token.
///
/// # Errors
/// 400 without a token.
pub(super) async fn answer(config: &Config, tokens: &Tokens, mut review: Value) -> Result<Value, Status> {
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted = review.pointer("/spec/audiences").and_then(Value::as_array);
    let mut audiences: Vec<&str> = wanted.into_iter().flatten().filter_map(Value::as_str).collect();
    if audiences.is_empty() {
        audiences.push(config.token_signer.issuer());
    }
    let status = match tokens.verify(token, &audiences).await {
        Ok(claims) => {
            let common: Vec<&str> =
                audiences.iter().copied().filter(|a| claims.aud.iter().any(|b| b == a)).collect();
            json!({ "authenticated": true, "user": user_of(&claims), "audiences": common })
        }
        Err(why) => json!({ "user": {}, "error": why }),
    };
    review["status"] = status;
    review["kind"] = "TokenReview".into();
    review["apiVersion"] = "authentication.k8s.io/v1".into();
    if review.get("metadata").is_none() {
        review["metadata"] = json!({});
    }
    Ok(review)
}
