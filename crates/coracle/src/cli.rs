//! The command line. Its words are stable: scripts rely on them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::logs::Format;

/// A Kubernetes cluster in one unprivileged binary; its containers are WebAssembly sandboxes.
#[derive(Debug, Parser)]
#[command(name = "coracle", version = crate::VERSION, propagate_version = true)]
pub struct Cli {
    /// Log more: -v info, -vv debug, -vvv trace. RUST_LOG wins.
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that `coracle` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up a whole cluster in this process and stay in the foreground.
    Up(Up),
    /// Run a master: store, API server, controllers and scheduler.
    Server(Server),
    /// Run a worker: kubelet, runtime and proxy.
    Agent(Agent),
    /// Run the store alone.
    Store,
    /// Run the API server with its store, without controllers and scheduler.
    Apiserver(Server),
    /// Run the controllers alone, against any Kubernetes API server.
    ControllerManager(Remote),
    /// Run the scheduler alone, against any Kubernetes API server.
    Scheduler(Remote),
    /// Run the kubelet alone, against any CRI runtime.
    Kubelet(KubeletAlone),
    /// Run the proxy alone; it programs the network of a running runtime.
    Proxy(ProxyAlone),
    /// Run the CRI runtime alone.
    Runtime(RuntimeAlone),
    /// Print the administrator's kubeconfig, or make a node's.
    Kubeconfig(KubeconfigArgs),
    /// Print the token with which agents and masters join.
    Token(DataDirArg),
    /// Work with the images of a node.
    Image(ImageArgs),
    /// Print the version.
    Version,
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: Shell,
    },
}

/// Where state lives.
#[derive(Debug, Clone, Args)]
pub struct DataDirArg {
    /// Directory that holds all state.
    #[arg(long, env = "CORACLE_DATA_DIR", default_value_os_t = default_data_dir())]
    pub data_dir: PathBuf,
}

/// `coracle up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Where state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// Port of the API server; 0 chooses one.
    #[arg(long, default_value_t = 6443)]
    pub port: u16,
    /// Masters in this process.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    pub servers: u16,
    /// Workers in this process; 0 runs a control plane alone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub agents: u16,
    /// Manifest to apply once the cluster is ready; may be given several times.
    #[arg(short = 'f', long = "filename", value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,
    /// Keep state in memory and in a temporary directory that goes away at exit; no fsync.
    #[arg(long)]
    pub ephemeral: bool,
    /// Address of the API server.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind_address: IpAddr,
    /// Address of the first node, for node ports and the node API; further nodes take the
    /// following ones.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    pub node_ip: Ipv4Addr,
}

/// `coracle server` and `coracle apiserver`.
#[derive(Debug, Args)]
pub struct Server {
    /// Where state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// Port of the API server; 0 chooses one.
    #[arg(long, default_value_t = 6443)]
    pub port: u16,
    /// Address of the API server.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind_address: IpAddr,
    /// Join the cluster of this master.
    #[arg(long, value_name = "URL", requires = "token")]
    pub join: Option<String>,
    /// Token for joining.
    #[arg(long)]
    pub token: Option<String>,
    /// Keep state in this external etcd instead.
    #[arg(long, value_name = "URL,URL…", value_delimiter = ',')]
    pub datastore_endpoints: Vec<String>,
    /// Also serve the etcd v3 API here.
    #[arg(long, value_name = "ADDRESS")]
    pub etcd_listen: Option<String>,
}

/// `coracle agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// Where state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// The master to join.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Token for joining.
    #[arg(long)]
    pub token: Option<String>,
    /// A node's kubeconfig (`coracle kubeconfig --node NAME`), instead of --server and --token.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the node; default: the host name.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Address of the node, for node ports, the node API and traffic between nodes.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub node_ip: IpAddr,
    /// Drive this CRI runtime instead of the built-in one.
    #[arg(long, value_name = "unix:///…")]
    pub container_runtime_endpoint: Option<String>,
}

/// A component that needs only an API server.
#[derive(Debug, Args)]
pub struct Remote {
    /// How to reach the API server.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: PathBuf,
}

/// `coracle kubelet`.
#[derive(Debug, Args)]
pub struct KubeletAlone {
    /// Where state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// A node's kubeconfig.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: PathBuf,
    /// Name of the node; default: the host name.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Address of the node.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub node_ip: IpAddr,
    /// The CRI runtime.
    #[arg(long, value_name = "unix:///…")]
    pub container_runtime_endpoint: String,
}

/// `coracle proxy`.
#[derive(Debug, Args)]
pub struct ProxyAlone {
    /// How to reach the API server.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: PathBuf,
    /// Name of the node; default: the host name.
    #[arg(long)]
    pub node_name: Option<String>,
    /// The runtime whose network is programmed.
    #[arg(long, value_name = "unix:///…")]
    pub network_endpoint: String,
}

/// `coracle runtime`.
#[derive(Debug, Args)]
pub struct RuntimeAlone {
    /// Where state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// Name of the node; default: the host name.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Address of the node, for node ports.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub node_ip: IpAddr,
}

/// `coracle kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Where the cluster's state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// Make the kubeconfig of the agent that runs this node.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Address of that node.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), requires = "node")]
    pub node_ip: IpAddr,
}

/// `coracle image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Where the node's state lives.
    #[command(flatten)]
    pub dir: DataDirArg,
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List images.
    Ls,
    /// Import a .wasm file under a name.
    Load {
        /// The module or component.
        file: PathBuf,
        /// Its name, for example `app:v1`.
        reference: String,
    },
    /// Remove an image.
    Rm {
        /// Its name or id.
        reference: String,
    },
    /// Push an image to a registry.
    Push {
        /// Its name.
        reference: String,
    },
    /// Pull an image from a registry.
    Pull {
        /// Its name.
        reference: String,
    },
}

/// `$XDG_DATA_HOME/coracle`, `~/.local/share/coracle`, or `./coracle-data` for users without
/// a home.
fn default_data_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("coracle-data"), |base| base.join("coracle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn scripts_may_rely_on_these() {
        for line in [
            "coracle up --data-dir /tmp/x --port 0 --servers 1 --agents 2 -f a.yaml -f b.yaml --ephemeral",
            "coracle server --data-dir /tmp/x --port 1 --join https://a:6443 --token t",
            "coracle server --data-dir /tmp/x --datastore-endpoints http://a:2379,http://b:2379",
            "coracle agent --server https://a:6443 --token t --data-dir /x --node-name n --container-runtime-endpoint unix:///run/x.sock",
            "coracle image load x.wasm name:tag",
            "coracle kubeconfig",
            "coracle token",
            "coracle version",
            "coracle completion bash",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
