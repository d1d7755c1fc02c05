//! One call of the program: the cluster, the namespace, the clock, the screen and Ctrl-C; and the few requests that commands make.
//!
//! Every request has a deadline and ends with Ctrl-C; its error comes back as a [`Failure`] that names what was tried.

use crate::errors::{Attempt, Exit, Failure};
use crate::instant::Here;
use crate::output::Screen;
use chrono::{DateTime, FixedOffset, Utc};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// An API server that says nothing for this long will not.
const ANSWER: Duration = Duration::from_secs(30);

/// What a command works with.
#[derive(Clone)]
pub(crate) struct Session {
    /// The cluster.
    pub(crate) client: Client,
    /// `--namespace`, or the context's.
    pub(crate) namespace: String,
    /// Where Borgherd is installed.
    pub(crate) borgherd_namespace: String,
    /// The one clock.
    pub(crate) clock: fn() -> DateTime<Utc>,
    /// Local time.
    pub(crate) offset: fn(DateTime<Utc>) -> FixedOffset,
    /// Where output goes.
    pub(crate) screen: Screen,
    /// Becomes true with Ctrl-C.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What every kind that is read here is.
pub(crate) trait Readable: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {}
impl<K> Readable for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {}

impl Session {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// For showing moments as of now.
    pub(crate) fn here(&self) -> Here {
        Here { now: self.now(), offset: self.offset }
    }

    /// Ends with Ctrl-C.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody can press it any more.
            std::future::pending::<()>().await;
        }
    }

    /// `request` within its deadline, unless Ctrl-C comes first.
    async fn ask<T>(&self, attempt: &Attempt, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        tokio::select! {
            answer = answer(attempt, request) => answer,
            () = self.stopped() => Err(Failure::interrupted()),
        }
    }

    /// The object, or `None` where there is none of that name.
    pub(crate) async fn find<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Failure>
    where
        K: Readable + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("get", Some(namespace), Some(name));
        self.ask(&attempt, self.api::<K>(namespace).get_opt(name)).await
    }

    /// The object of a kind without namespace, or `None` where there is none of that name.
    pub(crate) async fn find_global<K>(&self, name: &str) -> Result<Option<K>, Failure>
    where
        K: Readable + Resource<Scope = ClusterResourceScope>,
    {
        let attempt = Attempt::new::<K>("get", None, Some(name));
        self.ask(&attempt, Api::<K>::all(self.client.clone()).get_opt(name)).await
    }

    /// All objects of a namespace, or with `None` of the cluster. One that this version cannot read is left out with a warning.
    pub(crate) async fn list<K>(&self, namespace: Option<&str>) -> Result<Vec<K>, Failure>
    where
        K: Readable + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("list", namespace, None);
        match namespace {
            Some(namespace) => self.collect(Api::namespaced(self.client.clone(), namespace), attempt, &ListParams::default()).await,
            None => self.collect(Api::all(self.client.clone()), attempt.everywhere(), &ListParams::default()).await,
        }
    }

    /// The objects of a namespace with these labels.
    pub(crate) async fn select<K>(&self, namespace: &str, labels: &str) -> Result<Vec<K>, Failure>
    where
        K: Readable + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("list", Some(namespace), None);
        self.collect(Api::namespaced(self.client.clone(), namespace), attempt, &ListParams::default().labels(labels)).await
    }

    /// All objects of a kind without namespace.
    pub(crate) async fn list_global<K>(&self) -> Result<Vec<K>, Failure>
    where
        K: Readable + Resource<Scope = ClusterResourceScope>,
    {
        self.collect(Api::all(self.client.clone()), Attempt::new::<K>("list", None, None), &ListParams::default()).await
    }

    async fn collect<K: Readable>(&self, api: Api<DeserializeGuard<K>>, attempt: Attempt, which: &ListParams) -> Result<Vec<K>, Failure> {
        let all = self.ask(&attempt, api.list(which)).await?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for DeserializeGuard(read) in all.items {
            read.map_or_else(|e| bad.push(e), |object| good.push(object));
        }
        if let Some(first) = bad.first() {
            let name = first.metadata.name.as_deref().unwrap_or_default();
            let (kind, number) = (K::kind(&()), bad.len());
            self.screen.warn(&format!("{kind} objects that this version cannot read are left out: {number}, the first is {name}: {first}"));
        }
        Ok(good)
    }

    /// Creates an object of a namespace. Goes on despite Ctrl-C, as whoever made something must know its name.
    pub(crate) async fn create<K>(&self, namespace: &str, object: &K) -> Result<K, Failure>
    where
        K: Readable + Serialize + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("create", Some(namespace), object.meta().name.as_deref());
        answer(&attempt, self.api::<K>(namespace).create(&PostParams::default(), object)).await
    }

    /// Changes an object of a namespace by a merge.
    pub(crate) async fn patch<K>(&self, namespace: &str, name: &str, patch: &Value) -> Result<K, Failure>
    where
        K: Readable + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("patch", Some(namespace), Some(name));
        answer(&attempt, self.api::<K>(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }

    /// Creates an object of a kind without namespace.
    pub(crate) async fn create_global<K>(&self, object: &K) -> Result<K, Failure>
    where
        K: Readable + Serialize + Resource<Scope = ClusterResourceScope>,
    {
        let attempt = Attempt::new::<K>("create", None, object.meta().name.as_deref());
        answer(&attempt, Api::<K>::all(self.client.clone()).create(&PostParams::default(), object)).await
    }

    /// Deletes an object of a kind without namespace, if `params` hold.
    pub(crate) async fn delete_global<K>(&self, name: &str, params: &DeleteParams) -> Result<(), Failure>
    where
        K: Readable + Resource<Scope = ClusterResourceScope>,
    {
        let attempt = Attempt::new::<K>("delete", None, Some(name));
        answer(&attempt, Api::<K>::all(self.client.clone()).delete(name, params)).await.map(drop)
    }

    /// Deletes an object of a namespace; it is no error when it is gone. Goes on despite Ctrl-C: it is what cleans up after it.
    pub(crate) async fn delete<K>(&self, namespace: &str, name: &str) -> Result<(), Failure>
    where
        K: Readable + Resource<Scope = NamespaceResourceScope>,
    {
        let attempt = Attempt::new::<K>("delete", Some(namespace), Some(name));
        let gone = answer(&attempt, self.api::<K>(namespace).delete(name, &DeleteParams::default())).await;
        match gone {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

async fn answer<T>(attempt: &Attempt, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(result) => result.map_err(|e| Failure::of(attempt, &e)),
        Err(_) => Err(Failure::no_answer(attempt, ANSWER.as_secs())),
    }
}
