//! What the API server knows about one run: reading it again and writing its status.
//!
//! Invariant: every write carries the resourceVersion of what was read, so it is lost when someone else has written. A lost or doubtful
//! write is settled by reading again: a run that is not ours any more or is over is never written to. Therefore a report that was lost
//! cannot turn a success into a failure, nor the reverse.

use super::bounds;
use borgherd_api::crd::{AgentRef, BorgRun, BorgRunStatus};
use borgherd_runtime::refusal::words;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use std::time::Duration;

/// One request to the API server takes no longer; kube itself sets no limit.
const REQUEST: Duration = Duration::from_secs(10);
/// How often a conflict is settled by reading again before the caller hears of it.
const CONFLICTS: usize = 5;

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The run was deleted, or another one has its name now.
    #[error("the run is gone")]
    Gone,
    /// Another agent has it, or it is over already.
    #[error("the run is {phase} by {agent}")]
    NotOurs {
        /// Phase as read.
        phase: String,
        /// Pod of the agent that has it.
        agent: String,
    },
    /// The API server refuses this status: asking again does not help.
    #[error("the status was refused: {}", words(.0))]
    Refused(#[source] kube::Error),
    /// It may or may not have been written: ask again.
    #[error("writing the status: {}", words(.0))]
    Request(#[source] kube::Error),
    /// It may or may not have been written: ask again.
    #[error("writing the status: no answer within {} s", REQUEST.as_secs())]
    Timeout,
}

impl WriteError {
    /// Whether the same write may succeed later.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Gone | Self::NotOurs { .. } | Self::Refused(_) => false,
            Self::Request(_) | Self::Timeout => true,
        }
    }
}

/// One run as this process last saw or wrote it.
#[derive(Debug)]
pub(super) struct Account {
    api: Api<BorgRun>,
    run: BorgRun,
}

impl Account {
    /// Of `run` as the watch delivered it.
    pub(super) const fn new(api: Api<BorgRun>, run: BorgRun) -> Self {
        Self { api, run }
    }

    /// The run as last seen.
    pub(super) const fn run(&self) -> &BorgRun {
        &self.run
    }

    /// The status as last seen.
    pub(super) fn status(&self) -> BorgRunStatus {
        self.run.status.clone().unwrap_or_default()
    }

    /// Make `wanted` the status, if the run is still as unfinished and as much whoever's as this account believes.
    pub(super) async fn write(&mut self, wanted: BorgRunStatus) -> Result<(), WriteError> {
        let wanted = bounds::bounded(wanted);
        let believed = self.run.status.as_ref().and_then(|status| status.agent.clone());
        let mut last = None;
        for _ in 0..CONFLICTS {
            match self.replace(&wanted).await {
                Ok(run) => {
                    self.run = run;
                    return Ok(());
                }
                Err(error) if !is_conflict(&error) => return Err(error),
                Err(error) => last = Some(error),
            }
            if self.settle(&wanted, believed.as_ref()).await? {
                return Ok(());
            }
        }
        Err(last.unwrap_or(WriteError::Timeout))
    }

    /// After a conflict: true if `wanted` had been written after all, false if it is to be written on what is there now.
    async fn settle(&mut self, wanted: &BorgRunStatus, believed: Option<&AgentRef>) -> Result<bool, WriteError> {
        let Some(current) = self.read().await? else {
            return Err(WriteError::Gone);
        };
        let status = current.status.clone().unwrap_or_default();
        if status == *wanted {
            self.run = current;
            return Ok(true);
        }
        let ours = status.agent.as_ref() == believed || status.agent == wanted.agent;
        if status.phase.is_final() || !ours {
            return Err(WriteError::NotOurs {
                phase: format!("{:?}", status.phase),
                agent: status.agent.map_or_else(|| "nobody".to_owned(), |agent| agent.pod),
            });
        }
        self.run = current;
        Ok(false)
    }

    /// The run as it is now, `None` if it is gone.
    async fn read(&self) -> Result<Option<BorgRun>, WriteError> {
        let name = self.run.name_any();
        let read = tokio::time::timeout(REQUEST, self.api.get_opt(&name)).await;
        let current = read.map_err(|_| WriteError::Timeout)?.map_err(WriteError::Request)?;
        Ok(current.filter(|current| current.uid() == self.run.uid()))
    }

    /// Read the run again. False: it is gone.
    pub(super) async fn refresh(&mut self) -> Result<bool, WriteError> {
        match self.read().await? {
            Some(run) => {
                self.run = run;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn replace(&self, wanted: &BorgRunStatus) -> Result<BorgRun, WriteError> {
        let mut run = self.run.clone();
        run.metadata.managed_fields = None;
        run.status = Some(wanted.clone());
        let params = PostParams { field_manager: Some(borgherd_api::names::AGENT.to_owned()), ..PostParams::default() };
        let name = run.name_any();
        let reply = tokio::time::timeout(REQUEST, self.api.replace_status(&name, &params, &run)).await;
        reply.map_err(|_| WriteError::Timeout)?.map_err(classify)
    }
}

/// 404 is gone, other 4xx that say "this object cannot be" are refused, everything else may pass.
fn classify(error: kube::Error) -> WriteError {
    let kube::Error::Api(status) = &error else {
        return WriteError::Request(error);
    };
    match status.code {
        404 => WriteError::Gone,
        400 | 413 | 422 => WriteError::Refused(error),
        // etcd's limit comes as a plain 500
        500 if status.message.contains("too large") => WriteError::Refused(error),
        _ => WriteError::Request(error),
    }
}

/// Someone has written since this account read: also the answer to a write of ours that had arrived unheard.
fn is_conflict(error: &WriteError) -> bool {
    matches!(error, WriteError::Request(kube::Error::Api(status)) if status.code == 409)
}
