//! Sleeps to some tens of microseconds: tokio's timer rounds up to a whole millisecond, which would count as latency.

use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// A timer of the kernel.
pub struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// Makes one.
    #[expect(
        deprecated,
        reason = "unsound for what may change its descriptor, as an OwnedFd cannot; its successor is unsafe"
    )]
    pub fn new() -> std::io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Sleeps until `moment`; returns at once if it is over.
    pub async fn until(&self, moment: Instant) -> std::io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let it_value = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)) {
                Ok(outcome) => return outcome.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_wakes_after_the_moment_and_not_before() {
        let ticker = Ticker::new().expect("a timer");
        for us in [0, 1, 300, 2_500] {
            let moment = Instant::now() + Duration::from_micros(us);
            ticker.until(moment).await.expect("it sleeps");
            assert!(Instant::now() >= moment, "{us}");
        }
    }
}
