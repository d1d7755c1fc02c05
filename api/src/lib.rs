//! What controller, agent and CLI agree on: custom resources, policy, schedules, retention, names, labels, reasons.
//!
//! Pure: no client, no clock, no environment, no IO. Time and randomness are arguments.

pub mod crd;
pub mod database;
pub mod due;
pub mod hooks;
pub mod identity;
pub mod names;
pub mod policy;
pub mod reason;
pub mod rebind;
pub mod repository;
pub mod retention;
pub mod schedule;
pub mod time;

pub use reason::Reason;
