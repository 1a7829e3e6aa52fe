//! Images: what is here runs without a pull, what is not says so, and what cannot run is
//! refused when the container is created.

use coracle_cri::runtime::v1::*;
use tonic::Code;

use crate::support::{Node, container};

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.to_owned(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn pulling_what_is_here_and_what_is_not() {
    let node = Node::start().await;
    let mut images = node.images.clone();
    let pull = |image: &str| PullImageRequest { image: spec(image), ..Default::default() };
    let pulled = images.pull_image(pull("coracle.local/samples/hello")).await.unwrap().into_inner();
    let status = ImageStatusRequest { image: spec("coracle.local/samples/hello:latest"), verbose: false };
    let image = images.image_status(status).await.unwrap().into_inner().image.unwrap();
    assert_eq!(pulled.image_ref, image.id);
    assert_eq!(image.repo_tags, ["coracle.local/samples/hello:latest"]);
    assert!(image.size > 0 && image.pinned);

    let absent = images.pull_image(pull("busybox")).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert!(absent.message().starts_with("image not found: busybox"), "{absent}");
    assert!(absent.message().contains("coracle image load"), "{absent}");
    let invalid = images.pull_image(pull("Not An Image")).await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    assert!(invalid.message().starts_with("InvalidImageName"), "{invalid}");
    let absent = ImageStatusRequest { image: spec("busybox"), verbose: false };
    assert_eq!(images.image_status(absent).await.unwrap().into_inner().image, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_image_runs_and_goes() {
    let node = Node::start().await;
    let mut images = node.images.clone();
    let module = node.store.module(&node.store.resolve("coracle.local/samples/cli").unwrap().id).unwrap();
    let mut mine = module.to_vec();
    mine.extend_from_slice(b"\0\x02\x01x");
    node.store.load(&mine, "team/app").unwrap();
    let pod = node.sandbox("p").await;
    let mut config = container("cli", &["echo:mine"]);
    config.image = spec("team/app:latest");
    assert_eq!(pod.complete(config).await.exit_code, 0);
    let listed = images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert!(listed.iter().any(|image| image.repo_tags == ["docker.io/team/app:latest"]));
    let remove = |image: &str| RemoveImageRequest { image: spec(image) };
    images.remove_image(remove("team/app")).await.unwrap();
    images.remove_image(remove("team/app")).await.unwrap();
    let builtin = images.remove_image(remove("coracle.local/samples/cli")).await.unwrap_err();
    assert_eq!(builtin.code(), Code::FailedPrecondition);
    let info = images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.image_filesystems.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_by_name() {
    let node = Node::start().await;
    let pod = node.sandbox("p").await;
    // (import "env" "missing" (func)), a core module.
    let foreign = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0f\x01\x03env\x07missing\0\0";
    // A component that imports an instance `acme:db/rows@1.0.0`.
    let component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0\x0a\x17\x01\0\x12acme:db/rows@1.0.0\x05\0";
    let cases: [(&str, &[u8], &str); 4] = [
        ("foreign", foreign, "it imports env#missing, which this runtime does not offer"),
        ("component", component, "it imports acme:db/rows@1.0.0, which this runtime does not offer"),
        ("empty", b"\0asm\x01\0\0\0", "nothing to start"),
        ("nothing", b"\0asm\x0d\0\x01\0", "nothing to start"),
    ];
    for (name, module, expected) in cases {
        node.store.load(module, name).unwrap();
        let mut config = container("cli", &[]);
        config.image = spec(name);
        let refused = pod.create(config).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(expected), "{name}: {refused}");
        assert!(refused.message().contains(name), "{refused}");
    }
    let mut config = container("cli", &[]);
    config.image = spec("absent");
    assert_eq!(pod.create(config).await.unwrap_err().code(), Code::NotFound);
}
