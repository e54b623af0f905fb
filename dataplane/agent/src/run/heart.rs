//! Whether what has to turn all the time still does, the main loop and the ALG's thread: for /healthz.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::alg::Handle;

/// Without a beat for longer than this something hangs: it beats every 5 s, and to put the largest configuration into the kernel, which
/// keeps the loop that long, takes some seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    /// Nothing is in force yet: to get there may take as long as it likes.
    Awaited,
    At(Instant),
    /// The agent is being stopped.
    Over,
}

/// The beats, as whoever asks sees them.
#[derive(Debug)]
pub(super) struct Heart(Mutex<Beat>);

impl Default for Heart {
    fn default() -> Self {
        Self(Mutex::new(Beat::Awaited))
    }
}

impl Heart {
    fn change(&self, to: Beat) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *beat != Beat::Over {
            *beat = to;
        }
    }

    /// From now on nobody wonders why it does not beat.
    pub(super) fn rest(&self) {
        self.change(Beat::Over);
    }

    /// What is wrong, in a sentence; `None` while it beats, or need not.
    pub(super) fn stands_still(&self, now: Instant) -> Option<String> {
        stands_still(*self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

fn stands_still(beat: Beat, now: Instant) -> Option<String> {
    let Beat::At(last) = beat else { return None };
    let since = now.saturating_duration_since(last);
    (since > LONGEST).then(|| {
        format!(
            "the main loop or the ALG's thread has not had a turn for {} s: what is in the kernel goes on; kill -9 this process and start \
             it anew, which takes over what lives",
            since.as_secs()
        )
    })
}

/// Makes it beat, from the main loop.
pub(super) struct Pulse {
    heart: Arc<Heart>,
    handle: Handle,
    /// Something has been in force.
    begun: bool,
    /// The ALG was asked, and may not have answered yet.
    asked: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(super) fn new(heart: Arc<Heart>, handle: Handle) -> Self {
        Self { heart, handle, begun: false, asked: None }
    }

    /// The main loop has a turn, and what is wanted is in force, or not: it beats once the ALG has had a turn too. Not waited for here:
    /// signals are still heard where that hangs.
    pub(super) fn feel(&mut self, in_force: bool) {
        self.begun |= in_force;
        if self.begun && self.asked.as_ref().is_none_or(JoinHandle::is_finished) {
            let (heart, handle) = (Arc::clone(&self.heart), self.handle.clone());
            self.asked = Some(tokio::spawn(async move {
                if handle.alive().await {
                    heart.change(Beat::At(Instant::now()));
                }
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alg::scripted;

    #[test]
    fn what_has_not_beaten_for_a_minute_stands_still_but_not_before_the_first_beat_nor_after_the_end() {
        let now = Instant::now();
        let after = |beat, seconds| stands_still(beat, now + Duration::from_secs(seconds));
        let said = "the main loop or the ALG's thread has not had a turn for 61 s: what is in the kernel goes on; kill -9 this process and \
                    start it anew, which takes over what lives";
        assert_eq!((after(Beat::At(now), 60), after(Beat::At(now), 61)), (None, Some(said.to_owned())));
        assert_eq!((after(Beat::Awaited, 3_600), after(Beat::Over, 3_600)), (None, None));
        assert_eq!(stands_still(Beat::At(now + Duration::from_secs(1)), now), None, "a beat behind the question");
    }

    #[tokio::test]
    async fn it_beats_when_the_alg_answers_and_never_again_once_it_is_over() {
        let heart = Arc::new(Heart::default());
        let beat = || *heart.0.lock().unwrap();
        for (handle, beats) in [(scripted::ended(), false), (scripted::handle(), true)] {
            let mut pulse = Pulse::new(Arc::clone(&heart), handle);
            pulse.feel(false);
            assert!(pulse.asked.is_none(), "nothing is in force yet");
            pulse.feel(true);
            pulse.asked.unwrap().await.unwrap();
            assert_eq!(matches!(beat(), Beat::At(_)), beats);
        }
        heart.rest();
        let mut late = Pulse::new(Arc::clone(&heart), scripted::handle());
        late.feel(true);
        late.asked.unwrap().await.unwrap();
        assert_eq!(beat(), Beat::Over);
    }

    #[tokio::test]
    async fn an_alg_that_hangs_is_asked_once_and_keeps_nobody_waiting() {
        let (requests, received) = std::sync::mpsc::channel();
        let heart = Arc::new(Heart::default());
        let mut pulse = Pulse::new(Arc::clone(&heart), Handle::unheard(requests));
        pulse.feel(true);
        tokio::task::yield_now().await;
        pulse.feel(false);
        tokio::task::yield_now().await;
        assert_eq!((received.try_iter().count(), *heart.0.lock().unwrap()), (1, Beat::Awaited));
    }
}
