//! Group `storage.k8s.io`: its rows of the resource table.

use super::Resource;
use super::build::{cluster, namespaced};

/// The rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("storage.k8s.io", "v1", "csidrivers", "csidriver", "CSIDriver").columns(&[
            ("Name", "string", "name", 0),
            ("AttachRequired", "boolean", "", 0),
            ("PodInfoOnMount", "boolean", "", 0),
            ("StorageCapacity", "boolean", "", 0),
            ("TokenRequests", "string", "", 0),
            ("RequiresRepublish", "boolean", "", 0),
            ("Modes", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
        cluster("storage.k8s.io", "v1", "csinodes", "csinode", "CSINode").columns(&[
            ("Name", "string", "name", 0),
            ("Drivers", "integer", "", 0),
            ("Age", "string", "", 0),
        ]),
        namespaced(
            "storage.k8s.io",
            "v1",
            "csistoragecapacities",
            "csistoragecapacity",
            "CSIStorageCapacity",
        )
        .columns(&[("Name", "string", "name", 0), ("Created At", "date", "", 0)]),
        cluster("storage.k8s.io", "v1", "storageclasses", "storageclass", "StorageClass")
            .short(&["sc"])
            .columns(&[
                ("Name", "string", "name", 0),
                ("Provisioner", "string", "", 0),
                ("ReclaimPolicy", "string", "", 0),
                ("VolumeBindingMode", "string", "", 0),
                ("AllowVolumeExpansion", "string", "", 0),
                ("Age", "string", "", 0),
            ]),
        cluster("storage.k8s.io", "v1", "volumeattachments", "volumeattachment", "VolumeAttachment")
            .status()
            .columns(&[
                ("Name", "string", "name", 0),
                ("Attacher", "string", "name", 0),
                ("PV", "string", "", 0),
                ("Node", "string", "", 0),
                ("Attached", "boolean", "", 0),
                ("Age", "string", "", 0),
            ]),
        cluster(
            "storage.k8s.io",
            "v1",
            "volumeattributesclasses",
            "volumeattributesclass",
            "VolumeAttributesClass",
        )
        .short(&["vac"])
        .columns(&[
            ("Name", "string", "name", 0),
            ("DriverName", "string", "", 0),
            ("Age", "string", "", 0),
        ]),
    ]
}
