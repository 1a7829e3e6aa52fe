//! `runtime.v1.ImageService` over the node's image store.

use coracle_cri::runtime::v1 as cri;
use coracle_cri::runtime::v1::image_service_server::ImageService;
use coracle_images::{ImageInfo, Reference, RemoveError};
use tonic::{Request, Response, Status};

use super::{Cri, Replies, in_messages, with_causes};
use crate::node::now_ns;

impl Cri {
    fn images(&self, filter: Option<cri::ImageFilter>) -> Vec<cri::Image> {
        let store = &self.node.images;
        let wanted = filter.and_then(|filter| filter.image).unwrap_or_default().image;
        let found = match wanted.as_str() {
            "" => store.list(),
            name => store.resolve(name).into_iter().collect(),
        };
        found.into_iter().map(message).collect()
    }
}

#[tonic::async_trait]
impl ImageService for Cri {
    type StreamImagesStream = Replies<cri::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<cri::ListImagesRequest>,
    ) -> Result<Response<cri::ListImagesResponse>, Status> {
        let images = self.images(request.into_inner().filter);
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.images(request.into_inner().filter);
        Ok(Response::new(in_messages(images, |images| cri::StreamImagesResponse { images })))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        let name = named(request.into_inner().image)?;
        Ok(Response::new(cri::ImageStatusResponse {
            image: self.node.images.resolve(&name).map(message),
            info: Default::default(),
        }))
    }

    /// An image that is here is pulled; registries are not asked in this version.
    async fn pull_image(
        &self,
        request: Request<cri::PullImageRequest>,
    ) -> Result<Response<cri::PullImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        if name.parse::<coracle_images::Digest>().is_err() {
            let parsed = name.parse::<Reference>();
            parsed.map_err(|error| Status::invalid_argument(format!("InvalidImageName: {error}")))?;
        }
        let image = self.node.images.resolve(&name).ok_or_else(|| {
            Status::not_found(format!(
                "image not found: {name} is not on this node, and this version does not pull \
                 from registries; load it with `coracle image load FILE.wasm {name}`"
            ))
        })?;
        Ok(Response::new(cri::PullImageResponse { image_ref: image.id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        let removed = self.node.images.remove(&name);
        removed.map_err(|error| match error {
            RemoveError::Builtin(_) => Status::failed_precondition(error.to_string()),
            RemoveError::Open(error) => Status::internal(with_causes(&error)),
        })?;
        Ok(Response::new(cri::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        let store = &self.node.images;
        let usage = store.usage();
        // A store in memory is on no file system; the runtime's own then stands for it.
        let mountpoint = store.dir().unwrap_or(&self.state_dir).display().to_string();
        let filesystem = cri::FilesystemUsage {
            timestamp: now_ns(),
            fs_id: Some(cri::FilesystemIdentifier { mountpoint }),
            used_bytes: Some(cri::UInt64Value { value: usage.bytes }),
            inodes_used: Some(cri::UInt64Value { value: usage.inodes }),
        };
        Ok(Response::new(cri::ImageFsInfoResponse {
            image_filesystems: vec![filesystem.clone()],
            container_filesystems: vec![filesystem],
        }))
    }
}

fn named(image: Option<cri::ImageSpec>) -> Result<String, Status> {
    let name = image.unwrap_or_default().image;
    if name.is_empty() {
        return Err(Status::invalid_argument("InvalidImageName: the request names no image"));
    }
    Ok(name)
}

fn message(image: ImageInfo) -> cri::Image {
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size: image.size,
        uid: None,
        username: String::new(),
        spec: None,
        pinned: image.builtin,
    }
}
