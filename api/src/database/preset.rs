//! One database that can be dumped: every value checked.

use crate::hooks::Place;
use std::fmt;
use std::time::Duration;

/// What is dumped how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `psql` and `pg_dump`.
    Postgres,
    /// `mariadb` and `mariadb-dump`, else `mysql` and `mysqldump`.
    Mysql,
}

impl Kind {
    /// As it is written: `postgres`, `mysql`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A database, where it runs and where its dump goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What it is.
    pub kind: Kind,
    /// In which pod; the first ready one by name.
    pub place: Place,
    /// In which container; `None`: the first.
    pub container: Option<String>,
    /// Absolute path in the container, ending with `.gz`.
    pub file: String,
    /// Percent of the file's file system that may be used, 1 to 100.
    pub space_used_limit: u8,
    /// Empty: by the container's environment; `$NAME`: that variable of it; else itself.
    pub user: String,
    /// Empty or `$NAME`.
    pub password: String,
    /// As `user`.
    pub database: String,
    /// As `user`; nothing anywhere: the local socket.
    pub host: String,
    /// For the program that dumps, after its usual ones.
    pub args: Vec<String>,
    /// After this the dump is killed; whole seconds.
    pub timeout: Duration,
}
