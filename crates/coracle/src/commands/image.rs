//! `coracle image`: the images of a node. Works beside a running cluster: the image store's
//! index is shared between processes.

use anyhow::{Context as _, Result, bail};

use crate::agent::open_images;
use crate::cli::{ImageArgs, ImageCommand};

pub(super) fn run(arguments: ImageArgs) -> Result<()> {
    let open = || open_images(Some(&arguments.dir.data_dir.join("images")));
    match arguments.command {
        ImageCommand::Ls => {
            println!("{:<48} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
            for image in open()?.list() {
                let id: String =
                    image.id.to_string().trim_start_matches("sha256:").chars().take(12).collect();
                for tag in &image.repo_tags {
                    println!("{tag:<48} {id:<14} {:>10}", image.size);
                }
            }
        }
        ImageCommand::Load { file, reference } => {
            let wasm = std::fs::read(&file).with_context(|| file.display().to_string())?;
            let image = open()?.load(&wasm, &reference).with_context(|| file.display().to_string())?;
            println!("{reference} {}", image.id);
        }
        ImageCommand::Rm { reference } => {
            let store = open()?;
            if !store.untag(&reference)? && !store.remove(&reference)? {
                bail!("no image {reference}");
            }
            println!("removed {reference}");
        }
        ImageCommand::Push { .. } | ImageCommand::Pull { .. } => {
            bail!("registries are not available yet: import a file with `coracle image load`");
        }
    }
    Ok(())
}
