//! The reasons that users meet in pod statuses and events, spelled as Kubernetes spells
//! them: scripts and people match on these words.

/// Waiting: the sandbox or the container is being made.
pub const CONTAINER_CREATING: &str = "ContainerCreating";
/// Waiting: init containers have not finished.
pub const POD_INITIALIZING: &str = "PodInitializing";
/// Waiting: the last pull of the image failed just now.
pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
/// Waiting: the next pull is some time away.
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
/// Waiting: the image's name cannot be parsed.
pub const INVALID_IMAGE_NAME: &str = "InvalidImageName";
/// Waiting: the image is absent and the pull policy is Never.
pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
/// Waiting: the runtime could not say whether it has the image.
pub const IMAGE_INSPECT_ERROR: &str = "ImageInspectError";
/// Waiting: environment or mounts cannot be made from the pod's configuration.
pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
/// Waiting: the runtime refused to create the container.
pub const CREATE_CONTAINER_ERROR: &str = "CreateContainerError";
/// Waiting: the runtime could not start the created container.
pub const RUN_CONTAINER_ERROR: &str = "RunContainerError";
/// Waiting: the container keeps ending and its next start is some time away.
pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
/// Terminated: exit code 0.
pub const COMPLETED: &str = "Completed";
/// Terminated: another exit code.
pub const ERROR: &str = "Error";
/// Terminated: the runtime no longer knows the container.
pub const CONTAINER_STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
/// Pod: activeDeadlineSeconds has passed.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// Event: volumes could not be set up.
pub const FAILED_MOUNT: &str = "FailedMount";
/// Event: the sandbox could not be created.
pub const FAILED_CREATE_POD_SANDBOX: &str = "FailedCreatePodSandBox";
/// Event: waiting before the next pull or start.
pub const BACK_OFF: &str = "BackOff";
/// Event: fields of the pod have no effect on this node.
pub const NOT_SUPPORTED: &str = "NotSupported";
