//! The producing side of a load: clients that send to all partitions in turn, as fast as answers come or at a rate.
//! Owns the slots and the schedule. Invariant: at a rate the intended times depend on nothing that the cluster does; a
//! failed request is sent again and keeps its intended time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Topic;
use super::lane::{CLOSED, Form, Job, Lane, Retries, Sink};
use super::load::Load;
use super::meter::Meter;
use super::payload::Payload;
use super::ticker::Ticker;
use crate::cli::client::{Client, Error};

const RETRY_PAUSE: Duration = Duration::from_millis(20);
const REDO_AT_ONCE: usize = 10_000;
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The running load.
pub struct Flow {
    clients: JoinSet<Result<(), Error>>,
    sinks: Vec<Arc<Sink>>,
    in_flight: u32,
}

impl Flow {
    /// Starts the clients, at `rate` records a second or as fast as possible.
    pub fn start(
        load: &Load,
        rate: Option<u64>,
        bootstrap: &str,
        topics: &[Topic],
        payload: Payload,
        meter: &Arc<Meter>,
    ) -> anyhow::Result<Self> {
        let (shape, pace) = (&load.shape, &load.pace);
        let records = shape.records_per_batch() as u64;
        let worth = (records, shape.batch_value_bytes() as u64);
        let places = topics.iter().flat_map(Topic::places).collect();
        let form = Arc::new(Form { places, acks: shape.acks_code(), payload });
        let period = rate.map(|rate| Duration::from_secs_f64(f64::from(pace.clients) * records as f64 / rate as f64));
        let begin = Instant::now();
        let mut flow = Self { clients: JoinSet::new(), sinks: Vec::new(), in_flight: pace.in_flight };
        for number in 0..pace.clients {
            let (again, to_redo) = mpsc::unbounded_channel();
            let sink = Arc::new(Sink {
                meter: meter.clone(),
                slots: Semaphore::new(pace.in_flight as usize),
                again,
                retries: Default::default(),
                failure: Default::default(),
                worth,
            });
            flow.sinks.push(sink.clone());
            let turn = form.places.len() * number as usize / pace.clients as usize;
            let lanes = vec![None; form.places.len()];
            let sender =
                Sender { client: Client::new(bootstrap), form: form.clone(), sink, lanes, open: Vec::new(), turn };
            let first = begin + period.unwrap_or_default() * number / pace.clients;
            flow.clients.spawn(sender.run(Schedule { ticker: Ticker::new()?, next: first, period }, to_redo));
        }
        Ok(flow)
    }

    /// Ends only if a client fails.
    pub async fn failure(&mut self) -> anyhow::Error {
        while let Some(client) = self.clients.join_next().await {
            match client {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(error) => return error.into(),
            }
        }
        std::future::pending().await
    }

    /// Sends no more, waits for what is on its way, and says which requests were sent again.
    pub async fn stop(self) -> Retries {
        let all_back = self.sinks.iter().map(|sink| timeout(STOP_PATIENCE, sink.slots.acquire_many(self.in_flight)));
        futures::future::join_all(all_back).await;
        let mut all = Retries::new();
        for sink in self.sinks {
            for (why, count) in std::mem::take(&mut *sink.retries.lock().unwrap_or_else(PoisonError::into_inner)) {
                *all.entry(why).or_default() += count;
            }
        }
        all
    }
}

/// When requests should be sent.
struct Schedule {
    ticker: Ticker,
    next: Instant,
    period: Option<Duration>,
}

/// One client.
struct Sender {
    client: Client,
    form: Arc<Form>,
    sink: Arc<Sink>,
    /// The connection to each place's leader, as far as known.
    lanes: Vec<Option<Arc<Lane>>>,
    open: Vec<(String, Arc<Lane>)>,
    turn: usize,
}

impl Sender {
    async fn run(mut self, mut schedule: Schedule, to_redo: mpsc::UnboundedReceiver<Job>) -> Result<(), Error> {
        let (rested, mut again) = mpsc::unbounded_channel();
        let mut rest = JoinSet::new();
        rest.spawn(pause(self.client.clone(), self.form.clone(), to_redo, rested));
        let sink = self.sink.clone();
        loop {
            let job = tokio::select! {
                Some(job) = again.recv() => {
                    self.lanes[job.place] = None;
                    job
                }
                slot = free_slot(&schedule, &sink.slots) => {
                    if !slot? {
                        let failure = sink.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                        return failure.map_or(Ok(()), Err);
                    }
                    let intended = if schedule.period.is_some() { schedule.next } else { Instant::now() };
                    schedule.next += schedule.period.unwrap_or_default();
                    self.turn = (self.turn + 1) % self.form.places.len();
                    Job { place: self.turn, intended }
                }
            };
            self.send(job).await;
        }
    }

    async fn send(&mut self, job: Job) {
        let lane = match &self.lanes[job.place] {
            Some(lane) => lane.clone(),
            None => match self.find(job.place).await {
                Ok(lane) => self.lanes[job.place].insert(lane).clone(),
                Err(error) if error.passes() => return self.sink.redo(job, &error.to_string()),
                Err(error) => return self.sink.fail(error),
            },
        };
        if let Err(job) = lane.push(job) {
            self.open.retain(|(_, open)| !Arc::ptr_eq(open, &lane));
            self.sink.redo(job, CLOSED);
        }
    }

    /// The connection to the leader of a place, opened if there is none.
    async fn find(&mut self, place: usize) -> Result<Arc<Lane>, Error> {
        let (topic, partition) = &self.form.places[place];
        let address = self.client.leader_address(topic, *partition).await?;
        if let Some((_, lane)) = self.open.iter().find(|(open, _)| *open == address) {
            return Ok(lane.clone());
        }
        let lane = Arc::new(Lane::open(&address, self.form.clone(), self.sink.clone()).await?);
        self.open.push((address, lane.clone()));
        Ok(lane)
    }
}

/// Waits for the next intended time and a slot; false once the slots are closed.
async fn free_slot(schedule: &Schedule, slots: &Semaphore) -> Result<bool, Error> {
    if schedule.period.is_some() {
        let failed = |cause| Error::Connect { address: "the kernel's timer".to_owned(), cause };
        schedule.ticker.until(schedule.next).await.map_err(failed)?;
    }
    Ok(slots.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_ok())
}

/// Holds failed jobs for a moment, then asks who leads now.
async fn pause(
    client: Client,
    form: Arc<Form>,
    mut failed: mpsc::UnboundedReceiver<Job>,
    rested: mpsc::UnboundedSender<Job>,
) {
    let mut jobs = Vec::new();
    while failed.recv_many(&mut jobs, REDO_AT_ONCE).await > 0 {
        sleep(RETRY_PAUSE).await;
        let mut topics: Vec<&str> = form.places.iter().map(|(topic, _)| topic.as_str()).collect();
        topics.dedup();
        // Nobody answers: the jobs fail again and come back here.
        client.metadata(Some(&topics), false).await.ok();
        jobs.drain(..).for_each(|job| rested.send(job).unwrap_or_default());
    }
}
