//! Each way to fail has its own reason, in status, Event and metric; it frees what it held; other PVCs go on; and doing what its
//! message says ends it.

mod asked;
pub(crate) mod expect;
mod found;
pub(crate) mod server;
mod unreadable;
