//! The controller: from annotations to Backups, from each Backup to its archives, from each Restore to its PVC.
//!
//! `plan` decides what is due, `backup` and `restore` lead what was asked for to its end, `expose` makes volumes visible to the
//! agents and takes them away again, `cuts` and `admission` say who may go on, `retention` thins snapshots out, `maintenance` archives.

pub mod admission;
pub mod backup;
pub mod config;
pub mod context;
pub mod cuts;
pub mod digest;
pub mod echo;
pub mod error;
pub mod events;
pub mod expose;
pub mod identity;
pub mod leader;
pub mod lost;
pub mod maintenance;
pub mod metrics;
pub mod pages;
pub mod plan;
pub mod quiesce;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod run;
pub mod serve;
pub mod stores;
pub mod world;
