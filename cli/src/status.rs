//! `status`: what is backed up, when, by which annotation, and why not. Observe, assess, show; it changes nothing.

mod assess;
mod block;
mod observe;
mod table;

use crate::args;
use crate::errors::Failure;
use crate::output::Format;
use crate::session::Session;
use assess::Item;
pub(crate) use observe::missing;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report {
    items: Vec<Item>,
}

/// Runs `status`.
pub(crate) async fn run(session: &Session, args: &args::Status) -> Result<(), Failure> {
    let seen = Box::pin(observe::observe(session, args)).await?;
    let report = Report { items: assess::assess(&seen, session.now()) };
    let screen = session.screen;
    let namespace = (!args.all_namespaces).then_some(session.namespace.as_str());
    screen.show(&report, || {
        if args.explain || !args.pvcs.is_empty() {
            return block::render(&report.items, session.here(), screen.colours);
        }
        if report.items.is_empty() {
            return table::none(namespace);
        }
        let wide = screen.format == Format::Wide;
        table::render(&report.items, session.here(), table::Columns { wide, namespace: namespace.is_none() }, screen.colours)
    })
}

#[cfg(test)]
mod tests;
