//! Forty days of retention against the real API server: the controller's own code, handed a clock and a client that dies at a request.
//!
//! The storage is a driver of no process: contents are written by hand, and what is let go is taken away by hand. Alone, and without a
//! controller: it would take for a leftover what the one that was killed has left. Over the end of 2020 in Fiji, whose clocks went forward on
//! 20 December (in week 51) and back on 17 January, with a week 53 between them.

use super::downtime::scale;
use anyhow::{Context as _, Result, ensure};
use borgherd_api::crd::snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use borgherd_api::names::{PVC, RETAIN, SWEPT};
use borgherd_api::retention::{self, Fate, Field, Said, Snapshot};
use borgherd_controller::admission::Admission;
use borgherd_controller::config::Config;
use borgherd_controller::context::Context;
use borgherd_controller::cuts::Cuts;
use borgherd_controller::echo::Echo;
use borgherd_controller::events::Events;
use borgherd_controller::metrics::Metrics;
use borgherd_controller::quiesce::Running;
use borgherd_controller::repository::breaker::Breakers;
use borgherd_controller::stores::{Stores, Touch};
use borgherd_e2e::{DEADLINE, World, exclusive, until_all, until_polled};
use chrono::{DateTime, Duration, Utc};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;

const DAYS: i64 = 40;
const KILLS: usize = 20;
/// At 23:30 by Fiji's clock in winter time, at half past midnight of the next day in summer time; and twelve hours later.
const FIRST: &str = "2020-12-12T11:30:00Z";
const KEEP: &str = "last=2,hourly=3,daily=7,weekly=4,monthly=2,yearly=1";
const ZONE: &str = "Pacific/Fiji";
const DRIVER: &str = "forty-days.test";
const OURS: &str = "forty-days.test/of";

/// Requests at which it is killed, by method and a part of the path: any, those that let a content go, delete, write marks, and count contents.
const POINTS: [(&str, &str); 5] = [
    ("", ""),
    ("PATCH", "/volumesnapshotcontents/"),
    ("DELETE", "/volumesnapshots/"),
    ("PATCH", "/volumesnapshots/"),
    ("GET", "/volumesnapshotcontents"),
];

/// The time it is for retention.
static NOW: AtomicI64 = AtomicI64::new(0);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW.load(Ordering::SeqCst), 0).unwrap_or_default()
}

/// One process: when it dies, and what it has asked for.
#[derive(Default)]
struct Life {
    /// It dies at the so many-th of these requests; 0: never.
    at: usize,
    of: (&'static str, &'static str),
    /// After the server has carried it out.
    done: bool,
    asked: AtomicUsize,
    matched: AtomicUsize,
    is_dead: AtomicBool,
    last: Mutex<String>,
}

impl Life {
    /// A client of this process: after its death nothing reaches the server.
    fn client(self: &Arc<Self>, to: &Client) -> Client {
        let (life, to) = (Arc::clone(self), to.clone());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (life, to) = (Arc::clone(&life), to.clone());
            async move {
                life.asked.fetch_add(1, Ordering::SeqCst);
                let matches = request.method().as_str().contains(life.of.0) && request.uri().path().contains(life.of.1);
                let dies = matches && life.matched.fetch_add(1, Ordering::SeqCst) + 1 == life.at;
                if dies {
                    *life.last.lock().map_err(|_| "poisoned")? = format!("{} {}", request.method(), request.uri().path());
                    life.is_dead.store(true, Ordering::SeqCst);
                    if !life.done {
                        return Err("killed".into());
                    }
                } else if life.is_dead.load(Ordering::SeqCst) {
                    return Err("killed".into());
                }
                let answer = to.send(request).await?;
                if dies { Err("killed".into()) } else { Ok::<_, tower::BoxError>(answer) }
            }
        });
        Client::new(service, "default")
    }
}

/// What the processes have in common.
struct Cluster<'a> {
    w: &'a World,
    client: Client,
    config: Config,
    stores: Stores,
    touch: Touch,
    world: Arc<RwLock<borgherd_controller::world::World>>,
}

impl<'a> Cluster<'a> {
    fn new(w: &'a World) -> Result<Self> {
        let client = w.api::<VolumeSnapshot>().into_client();
        let config = Config::try_parse_from(["borgherd-controller", "--holder-image=none", "--namespace", w.own_namespace()])?;
        let (backups, restores, retention) = (unbounded_channel().0, unbounded_channel().0, unbounded_channel().0);
        let notify = || Arc::new(Notify::new());
        let touch = Touch { backups, restores, retention, repositories: notify(), maintenance: notify(), runs: notify() };
        let stores = Stores::start(&client, &config, &touch);
        let mut world = borgherd_controller::world::World::new(config.defaults.clone());
        let annotations = json!({"borgherd.dev/keep": KEEP, "borgherd.dev/time-zone": ZONE});
        let claim = json!({"metadata": {"namespace": w.namespace, "name": "data", "uid": "u", "annotations": annotations}});
        world.put_claim(&serde_json::from_value::<PersistentVolumeClaim>(claim)?);
        Ok(Self { w, client, config, stores, touch, world: Arc::new(RwLock::new(world)) })
    }

    /// One process looks once, at all.
    async fn look(&self, life: &Arc<Life>) -> Result<()> {
        let client = life.client(&self.client);
        let ctx = Context {
            events: Events::new(client.clone(), "forty-days"),
            client,
            config: self.config.clone(),
            cluster_uid: "forty-days".into(),
            stores: self.stores.clone(),
            world: Arc::clone(&self.world),
            cuts: Cuts::default(),
            admission: Arc::new(Admission::default()),
            breakers: Breakers::default(),
            touch: self.touch.clone(),
            metrics: Metrics::new(&prometheus::Registry::new())?,
            deleted: Arc::new(Notify::new()),
            echo: Echo::default(),
            failures: Mutex::default(),
            debts: Mutex::default(),
            identities: Mutex::default(),
            running: Running::default(),
            clock: now,
        };
        // nobody will tell of a Backup that has ended, so it ends after its first look
        let (_, ended) = unbounded_channel();
        borgherd_controller::retention::run(Arc::new(ctx), ended).await;
        Ok(())
    }

    fn said(&self) -> Result<Said> {
        let world = self.world.read().map_err(|_| anyhow::anyhow!("poisoned"))?;
        Ok(Said::by(world.policy(&self.w.namespace, "data")))
    }

    /// What stands on the snapshots that are there and stay.
    async fn seen(&self) -> Result<Fields> {
        let retained = ListParams::default().labels(&format!("{RETAIN},{PVC}"));
        let all = self.w.api::<VolumeSnapshot>().list(&retained).await?.items;
        Ok(fields(&all.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).filter_map(Snapshot::of).collect::<Vec<_>>()))
    }
}

type Fields = BTreeMap<String, Vec<Option<String>>>;

fn fields(all: &[Snapshot]) -> Fields {
    all.iter().map(|s| (s.name.clone(), Field::ALL.map(|field| s.get(field).map(str::to_owned)).to_vec())).collect()
}

/// What one day should do, by the same planner and nothing else.
fn expect(all: &mut Vec<Snapshot>, said: &Said) {
    let mut verdicts = retention::judge(all, |_, _| said.clone(), now());
    for of_one in &mut verdicts {
        drop(retention::hold(of_one, ""));
    }
    let done: Vec<_> = verdicts.into_iter().flatten().map(|v| (v.snapshot.name.clone(), v.fate, v.changes)).collect();
    for (name, fate, changes) in done {
        if let (Some(place), true) = (all.iter().position(|s| s.name == name), fate == Fate::Sweep || !changes.is_empty()) {
            if fate == Fate::Sweep {
                all.remove(place);
            } else {
                all[place].apply(changes);
            }
        }
    }
}

fn cut(first: DateTime<Utc>, number: i64) -> DateTime<Utc> {
    first + Duration::hours(12 * number)
}

/// All snapshots, bound and ready, as nobody's: without labels.
async fn make(w: &World, first: DateTime<Utc>) -> Result<Vec<VolumeSnapshot>> {
    let one = async |number: i64| -> Result<()> {
        let name = format!("{}-{number:02}", w.namespace);
        let at = json!({"name": name, "labels": {OURS: w.namespace}});
        let (kind, reference) = ("snapshot.storage.k8s.io/v1", json!({"name": name, "namespace": w.namespace}));
        let spec =
            json!({"deletionPolicy": "Retain", "driver": DRIVER, "source": {"snapshotHandle": name}, "volumeSnapshotRef": reference});
        let content = json!({"apiVersion": kind, "kind": "VolumeSnapshotContent", "metadata": at, "spec": spec});
        let contents = w.api_all::<VolumeSnapshotContent>();
        drop(contents.create(&PostParams::default(), &serde_json::from_value(content)?).await?);
        let nanoseconds = cut(first, number).timestamp() * 1_000_000_000;
        let status = json!({"status": {"snapshotHandle": name, "creationTime": nanoseconds, "readyToUse": true, "restoreSize": 1}});
        drop(contents.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?);
        let source = json!({"source": {"volumeSnapshotContentName": name}});
        let snapshot = json!({"apiVersion": kind, "kind": "VolumeSnapshot", "metadata": {"name": name}, "spec": source});
        drop(w.api::<VolumeSnapshot>().create(&PostParams::default(), &serde_json::from_value(snapshot)?).await?);
        Ok(())
    };
    stream::iter((0..DAYS * 2).map(one)).buffer_unordered(8).try_collect::<Vec<()>>().await?;
    let is_ready = |s: &VolumeSnapshot| s.status.as_ref().is_some_and(|s| s.ready_to_use == Some(true) && s.creation_time.is_some());
    until_all(&w.api::<VolumeSnapshot>(), "", "all are bound and ready", DEADLINE, |all| {
        all.len() == usize::try_from(DAYS * 2).unwrap_or_default() && all.iter().all(is_ready)
    })
    .await
}

/// Gives one to Borgherd.
async fn hand_over(w: &World, all: &[VolumeSnapshot], number: i64, expected: &mut Vec<Snapshot>) -> Result<()> {
    let name = format!("{}-{number:02}", w.namespace);
    let labels = json!({"metadata": {"labels": {PVC: "data", RETAIN: "tiers"}}});
    drop(w.api::<VolumeSnapshot>().patch(&name, &PatchParams::default(), &Patch::Merge(labels)).await?);
    let mut object = all.iter().find(|s| s.name_any() == name).context("it was made")?.clone();
    object.labels_mut().extend([(PVC.to_owned(), "data".to_owned()), (RETAIN.to_owned(), "tiers".to_owned())]);
    expected.push(Snapshot::of(&object).context("it is retained")?);
    Ok(())
}

/// Does as the driver would: what is being deleted goes.
async fn take_away(w: &World) -> Result<Vec<VolumeSnapshotContent>> {
    let contents = w.api_all::<VolumeSnapshotContent>();
    let all = contents.list(&ListParams::default().labels(&format!("{OURS}={}", w.namespace))).await?.items;
    let free = Patch::Merge(json!({"metadata": {"finalizers": Value::Null}}));
    for content in all.iter().filter(|c| c.metadata.deletion_timestamp.is_some()) {
        drop(contents.patch(&content.name_any(), &PatchParams::default(), &free).await);
    }
    Ok(all.into_iter().filter(|c| c.metadata.deletion_timestamp.is_none()).collect())
}

/// Takes away everything of the test.
async fn clear(w: &World) -> Result<()> {
    let (contents, snapshots) = (w.api_all::<VolumeSnapshotContent>(), w.api::<VolumeSnapshot>());
    until_polled("all of the test is gone", DEADLINE, async || {
        drop(snapshots.delete_collection(&DeleteParams::default(), &ListParams::default()).await?);
        let all = ListParams::default().labels(&format!("{OURS}={}", w.namespace));
        drop(contents.delete_collection(&DeleteParams::default(), &all).await?);
        let left = take_away(w).await?.len() + snapshots.list(&ListParams::default()).await?.items.len();
        Ok((left == 0).then_some(()))
    })
    .await
}

#[test]
fn retention_ends_forty_days_with_the_expected_set_wherever_it_is_killed() -> Result<()> {
    exclusive("retention_ends_forty_days_with_the_expected_set_wherever_it_is_killed", async |w: &World| {
        scale(w, 0).await?;
        let outcome = forty_days(w).await;
        let cleared = clear(w).await;
        let back = scale(w, 1).await;
        outcome.and(cleared).and(back)
    })
}

async fn forty_days(w: &World) -> Result<()> {
    let first: DateTime<Utc> = FIRST.parse()?;
    let objects = make(w, first).await?;
    let cluster = Cluster::new(w)?;
    let (said, mut expected, mut killed, mut requests) = (cluster.said()?, Vec::new(), Vec::new(), 0);
    ensure!(matches!(said, Said::Policy { keep: Some(_), .. }), "{said:?}");
    for day in 0..DAYS {
        for number in [2 * day, 2 * day + 1] {
            hand_over(w, &objects, number, &mut expected).await?;
        }
        NOW.store((cut(first, 2 * day + 1) + Duration::hours(1)).timestamp(), Ordering::SeqCst);
        expect(&mut expected, &said);
        // each kind of request four times: the first and the second of its kind, before and after the server has done it
        let (round, kind) = (killed.len() / POINTS.len(), killed.len() % POINTS.len());
        let at = match (killed.len() < KILLS, kind) {
            (false, _) => 0,
            (true, 0) => 1 + round * 7 % requests.max(1),
            (true, _) => 1 + round / 2,
        };
        let life = Arc::new(Life { at, of: POINTS[kind], done: round % 2 == 1, ..Life::default() });
        cluster.look(&life).await?;
        if life.is_dead.load(Ordering::SeqCst) {
            killed.push(format!(
                "day {day} {} {}",
                if life.done { "after" } else { "before" },
                life.last.lock().map_err(|_| anyhow::anyhow!("poisoned"))?
            ));
        } else {
            requests = life.asked.load(Ordering::SeqCst);
        }
        let wanted = fields(&expected);
        let what = format!("day {day} ends with the expected set; killed at {killed:#?}");
        until_polled(&what, DEADLINE, async || {
            let seen = cluster.seen().await?;
            ensure!(wanted.keys().all(|name| seen.contains_key(name)), "one is gone that should stay: {wanted:?}\n{seen:?}");
            if seen == wanted {
                return Ok(Some(()));
            }
            let life = Arc::new(Life::default());
            cluster.look(&life).await?;
            requests = life.asked.load(Ordering::SeqCst);
            Ok(None)
        })
        .await?;
    }
    ensure!(killed.len() == KILLS, "killed {} times: {killed:#?}", killed.len());
    eprintln!("killed at {killed:#?}");
    eprintln!("of {} stay {}", objects.len(), expected.len());

    // and the storage's side: what stays is kept, the rest goes
    let names: Vec<String> = expected.iter().map(|s| s.name.clone()).collect();
    until_polled("what was swept is gone from the storage, too", DEADLINE, async || {
        let mut left = take_away(w).await?;
        left.sort_by_key(ResourceExt::name_any);
        let swept = |c: &&VolumeSnapshotContent| c.spec.deletion_policy != "Retain" || c.labels().contains_key(SWEPT);
        ensure!(left.iter().find(swept).is_none(), "it should be gone, or at Retain: {:#?}", left.iter().find(swept));
        let found: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
        ensure!(found == names, "left are {found:?}, and should {names:?}");
        Ok(Some(()))
    })
    .await
}
