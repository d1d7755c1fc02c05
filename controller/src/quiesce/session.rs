//! Sessions: a command that holds an application still for as long as its input is open.
//!
//! Invariant: who is not connected to it any more has let it go. It held until the cut only if it ended after it was asked to, with exit code 0.

use super::exec::{self, Answer, Ended};
use super::running::{self, Over};
use crate::backup::work::Work;
use borgherd_api::crd::{ActionResult, ActionStatus};
use borgherd_api::hooks::wrapper;
use futures::future::join3;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Begins a session and waits until it is ready. `watch`: after this its watchdog ends it.
pub(super) async fn begin(work: &Work<'_>, action: &ActionStatus, post: &ActionStatus, watch: Duration) -> Ended {
    if let Err(ended) = exec::is_there(&work.ctx.client, &work.owner.namespace, action).await {
        return ended;
    }
    let argv = if action.shell { wrapper::session(action, post, watch) } else { action.command.clone() };
    let pods: Api<Pod> = Api::namespaced(work.ctx.client.clone(), &work.owner.namespace);
    let params = AttachParams::default().container(&action.container).stdin(true).stdout(true).stderr(true);
    let limit = exec::limit(action);
    let process = match timeout(limit, pods.exec(&action.pod, argv.iter().map(String::as_str), &params)).await {
        Err(_) => return exec::ended(action, Answer::Lost(format!("no answer within {limit:?}"))),
        Ok(Err(error)) => return exec::ended(action, Answer::Refused(error.to_string())),
        Ok(Ok(process)) => process,
    };
    let (tell, ready) = oneshot::channel();
    let at = post.clone();
    running::keep(work, &action.token, |asked| lead(process, at, tell, asked));
    match timeout(limit, ready).await {
        Ok(Ok(())) => Ended { result: ActionResult::Succeeded, output: "ready".to_owned() },
        Ok(Err(_)) => {
            let over = work.ctx.running.thaw(&action.token, limit).await;
            let said = over.map(|over| over.ended.output).unwrap_or_default();
            let output = format!("it ended before it had said the line '{}': {said}", wrapper::READY);
            Ended { result: ActionResult::Failed, output }
        }
        Err(_) => {
            drop(work.ctx.running.thaw(&action.token, Duration::ZERO).await);
            let output = format!("it did not say the line '{}' within {} s", wrapper::READY, action.timeout_seconds);
            Ended { result: ActionResult::TimedOut, output }
        }
    }
}

/// Lets a session's application go. Besides: why it had done so before, if it had.
pub(super) async fn end(work: &Work<'_>, action: &ActionStatus) -> (Ended, Option<String>) {
    let void = |output: String| Ended { result: ActionResult::Void, output };
    match work.ctx.running.thaw(&action.token, exec::limit(action)).await {
        Some(Over { asked: true, is_lost: false, ended }) if ended.result == ActionResult::Succeeded => (ended, None),
        // as psql, which only then notices that its connection to the server was lost
        Some(Over { asked: true, is_lost: false, ended }) => {
            let said = format!("the session did not end well, so it may have let go before the cut: {}", ended.output);
            (void(said.clone()), Some(said))
        }
        Some(Over { asked: false, is_lost: false, ended }) => {
            let said = format!("the session ended by itself: {}", ended.output);
            (void(said.clone()), Some(said))
        }
        Some(Over { is_lost: true, .. }) | None => {
            let said = "the session was lost".to_owned();
            (confirm(work, action, &said).await, Some(said))
        }
    }
}

/// Nobody is connected to the session: it has ended, or is ended in the container.
async fn confirm(work: &Work<'_>, action: &ActionStatus, said: &str) -> Ended {
    if !action.shell {
        return Ended { result: ActionResult::Void, output: format!("{said}, and with it what it held") };
    }
    let ended = exec::run(&work.ctx.client, &work.owner.namespace, action, &wrapper::end_session(action)).await;
    match ended.result {
        ActionResult::Succeeded => Ended { result: ActionResult::Void, output: format!("{said}, and is over in the container") },
        ActionResult::Void | ActionResult::Failed | ActionResult::TimedOut | ActionResult::MayStillRun => {
            Ended { output: format!("{said}; ending it: {}", ended.output), ..ended }
        }
    }
}

/// Stays connected until the end. `ready` is told once it is ready, and dropped where it never is.
async fn lead(mut process: AttachedProcess, post: ActionStatus, ready: oneshot::Sender<()>, asked: oneshot::Receiver<()>) -> Over {
    let (stdin, stdout, stderr, status) = (process.stdin(), process.stdout(), process.stderr(), process.take_status());
    let Some(status) = status else {
        return Over { asked: false, is_lost: true, ended: exec::ended(&post, Answer::Lost("the API server tells no status".to_owned())) };
    };
    let mut finished = Box::pin(join3(said(stdout, ready), exec::all_of(stderr), status));
    let told = async {
        drop(asked.await); // asked for its end, or forgotten
        if let Some(mut stdin) = stdin {
            let lines = post.command.iter().fold(String::new(), |lines, line| lines + line + "\n");
            let written = async {
                stdin.write_all(lines.as_bytes()).await?;
                stdin.shutdown().await
            };
            if let Err(error) = written.await {
                tracing::debug!(pod = post.pod, %error, "a session is over before its input");
            }
        }
    };
    let (asked, end) = tokio::select! {
        biased;
        end = &mut finished => (false, Some(end)),
        () = told => (true, timeout(exec::limit(&post), &mut finished).await.ok()),
    };
    let answer = match end {
        None => Answer::Lost("it did not end when it should".to_owned()),
        Some((_, _, None)) => Answer::Lost("the connection ended before the command did".to_owned()),
        Some((out, err, Some(status))) => exec::told(&status, if out.trim().is_empty() { err } else { out }),
    };
    process.abort();
    let is_lost = matches!(answer, Answer::Lost(_));
    Over { asked, is_lost, ended: exec::ended(&post, answer) }
}

/// Reads what a session says, bounded, and tells when one of its lines says that it is ready.
async fn said(stream: Option<impl AsyncRead + Unpin>, ready: oneshot::Sender<()>) -> String {
    let (mut kept, mut line, mut buffer, mut ready) = (Vec::new(), Vec::new(), [0_u8; 4096], Some(ready));
    let Some(mut stream) = stream else { return String::new() };
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        for byte in buffer.iter().take(count) {
            if *byte != b'\n' {
                if line.len() < exec::READ {
                    line.push(*byte);
                }
                continue;
            }
            let is_ready = String::from_utf8_lossy(&line).trim() == wrapper::READY;
            match ready.take_if(|_| is_ready) {
                Some(ready) => drop(ready.send(())),
                None if kept.len() < exec::READ => kept.extend(line.iter().copied().chain([b'\n'])),
                None => {}
            }
            line.clear();
        }
    }
    String::from_utf8_lossy(&kept).into_owned() + &String::from_utf8_lossy(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_a_line_says_so_and_the_rest_is_kept() {
        for (text, is_ready, kept) in [
            ("ready\n", true, ""),
            ("one\nready\r\ntwo", true, "one\ntwo"),
            ("almost ready\n", false, "almost ready\n"),
            ("ready", false, "ready"),
            ("", false, ""),
            ("ready\nready\n", true, "ready\n"),
        ] {
            let (tell, told) = oneshot::channel();
            assert_eq!(said(Some(text.as_bytes()), tell).await, kept, "{text}");
            assert_eq!(told.await.is_ok(), is_ready, "{text}");
        }
    }
}
