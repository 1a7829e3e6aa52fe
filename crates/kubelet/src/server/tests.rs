//! Who gets in.

use super::*;
use axum::body::Body;

async fn answer(peer: Peer) -> StatusCode {
    let router: Router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .layer(middleware::from_fn(authorize))
        .layer(Extension(peer));
    let service = TowerToHyperService::new(router);
    let request = axum::http::Request::get("/healthz").body(Body::empty()).unwrap();
    hyper::service::Service::call(&service, request).await.unwrap().status()
}

fn known(name: &str, group: &str) -> Peer {
    Peer::Known { name: name.into(), groups: vec![group.into()] }
}

#[tokio::test]
async fn only_the_api_server_and_administrators() {
    assert_eq!(answer(Peer::Anonymous).await, StatusCode::UNAUTHORIZED);
    assert_eq!(answer(known("system:node:n1", "system:nodes")).await, StatusCode::FORBIDDEN);
    assert_eq!(answer(known("system:apiserver", MASTERS)).await, StatusCode::OK);
    assert_eq!(answer(known(API_SERVERS[0], "any")).await, StatusCode::OK);
}
