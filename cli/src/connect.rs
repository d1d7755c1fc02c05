//! The way into the cluster: kubeconfig and context as kubectl finds them, else the service account of the pod.
//!
//! Nothing is sent here: whether the cluster answers shows with the first request.

use crate::args::Global;
use crate::errors::Failure;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::time::Duration;

/// A cluster that did not accept a connection for this long is not reachable.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for the cluster that `global` names, and the namespace it is about.
pub(crate) async fn connect(global: &Global) -> Result<(Client, String), Failure> {
    let mut config = config(global).await?;
    config.connect_timeout = Some(CONNECT);
    let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)
        .map_err(|e| Failure::invalid(format!("cannot use the kubeconfig: {e}")).hint("check the certificates and credentials it names"))?;
    Ok((client, namespace))
}

async fn config(global: &Global) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let read = match &global.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(kubeconfig) => {
            let contexts = kubeconfig.contexts.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            let found = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            found.map_err(|e| unusable(&e, global.context.as_deref(), &contexts))
        }
        Err(error) if global.kubeconfig.is_none() && global.context.is_none() => {
            Config::incluster().map_err(|_| unusable(&error, None, &[]))
        }
        Err(error) => Err(unusable(&error, global.context.as_deref(), &[])),
    }
}

/// What is wrong with the kubeconfig, and what would be right.
fn unusable(error: &KubeconfigError, context: Option<&str>, contexts: &[String]) -> Failure {
    let known = format!("it has these contexts: {}", contexts.join(", "));
    if let (KubeconfigError::LoadContext(name), false) = (error, contexts.is_empty()) {
        return Failure::invalid(format!("there is no context {name} in the kubeconfig")).hint(known);
    }
    if let KubeconfigError::CurrentContextNotSet = error {
        return Failure::invalid("the kubeconfig has no current context").hint(format!("give --context; {known}"));
    }
    if let KubeconfigError::ReadConfig(cause, path) = error {
        return Failure::invalid(format!("cannot read the kubeconfig {}: {cause}", path.display()))
            .hint("give --kubeconfig FILE or set KUBECONFIG");
    }
    let about = context.map(|c| format!(" (context {c})")).unwrap_or_default();
    Failure::invalid(format!("cannot use the kubeconfig{about}: {error}")).hint("give --kubeconfig FILE or set KUBECONFIG")
}
