//! A container at work: everything that its instances are made from, and the task that
//! runs them until it has an [`Exit`].

use std::sync::Arc;

use coracle_network::{Listener, PodNet};
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::account::Account;
use crate::exit::{Exit, KILLED, TERMINATED};
use crate::guest::Guest;
use crate::host::Host;
use crate::http::{Served, Server};
use crate::log::{ContainerLog, LogStream, Source};
use crate::program::Program;
use crate::spec::GuestSpec;

/// Bytes that one call for random bytes may ask for; more traps.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What the instances of one container share.
pub(crate) struct Workload {
    pub(crate) host: Arc<Host>,
    pub(crate) program: Arc<Program>,
    pub(crate) spec: GuestSpec,
    pub(crate) net: PodNet,
    pub(crate) log: Arc<ContainerLog>,
    pub(crate) account: Arc<Account>,
    pub(crate) signals: Signals,
}

/// How a container is told to end. Clones are the same container's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// To end when it is convenient. A guest that serves requests finishes those it has;
    /// any other cannot hear it, and ends at once, as a process without a handler does.
    pub(crate) terminate: CancellationToken,
    /// To end now.
    pub(crate) kill: CancellationToken,
}

impl Workload {
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Tells the user, in the container's log, what the guest could not.
    pub(crate) fn complain(&self, message: &str) {
        self.log.write(Source::Stderr, format!("coracle: {message}\n").as_bytes());
    }

    /// A store for a new instance.
    ///
    /// # Errors
    /// When a mounted directory cannot be opened any more.
    pub(crate) fn store(&self) -> wasmtime::Result<Store<Guest>> {
        Ok(Guest::store(self.host.engine(), self.wasi()?, self.net.clone(), Arc::clone(&self.account)))
    }

    fn wasi(&self) -> wasmtime::Result<WasiCtx> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&self.spec.args)
            .envs(&self.spec.env)
            .max_random_size(RANDOM_BYTES_MAX)
            .stdout(LogStream::new(Arc::clone(&self.log), Source::Stdout))
            .stderr(LogStream::new(Arc::clone(&self.log), Source::Stderr));
        if let Some(dir) = &self.spec.working_dir {
            wasi.initial_cwd(dir);
        }
        for directory in &self.spec.directories {
            let perms = match directory.readonly {
                true => FsPerms::ReadOnly,
                false => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(&directory.host, &directory.guest, perms)?;
        }
        Ok(wasi.build())
    }

    /// What a program listens on, opened before the container counts as started.
    ///
    /// # Errors
    /// When the port is taken within the pod.
    pub(crate) fn listener(&self) -> Result<Option<Listener>, coracle_network::Error> {
        match *self.program {
            Program::Http(_) => self.net.listen(None, self.spec.port).map(Some),
            Program::Command(_) => Ok(None),
        }
    }

    /// Runs to the end, which may be never. Nothing of the guest is left when it returns.
    pub(crate) async fn run(self: Arc<Self>, listener: Option<Listener>) -> Exit {
        let signals = self.signals.clone();
        let exit = match (&*self.program, listener) {
            (Program::Http(component), Some(listener)) => {
                let server = Server::new(Arc::clone(&self), component.clone());
                let serving = server.run(listener, signals.terminate);
                match signals.kill.run_until_cancelled(Box::pin(serving)).await {
                    Some(Served::Drained) => Exit::signalled(TERMINATED),
                    Some(Served::OutOfMemory) => Exit::out_of_memory(self.account.memory_limit()),
                    Some(Served::Detached) => Exit::detached(),
                    None => Exit::signalled(KILLED),
                }
            }
            _ => tokio::select! {
                biased;
                () = signals.kill.cancelled() => Exit::signalled(KILLED),
                () = signals.terminate.cancelled() => Exit::signalled(TERMINATED),
                exit = Box::pin(self.account.run(self.host.ticker(), self.command())) => exit,
            },
        };
        self.log.finish();
        exit
    }

    async fn command(&self) -> Exit {
        let Program::Command(component) = &*self.program else {
            return Exit::of_command(Err(wasmtime::Error::msg("not a command")));
        };
        let mut store = match self.store() {
            Ok(store) => store,
            Err(error) => return Exit::of_command(Err(error)),
        };
        let result = async {
            let command = component.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
        .await;
        let exit = Exit::of_command(result);
        if exit.code != 0 && store.data().memory().denied() {
            return Exit::out_of_memory(self.account.memory_limit());
        }
        exit
    }
}
