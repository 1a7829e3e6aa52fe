//! End-to-end tests of a whole cluster, one module per behaviour.

mod controllers;
mod golden;
mod images;
mod kubectl;
mod kubelet;
mod limits;
mod main_job;
mod network;
mod python;
mod restart;
mod scheduler;
mod security;
mod watch;
