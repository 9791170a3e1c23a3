//! How many requests a host gets at once: half as many when it says that it has too much to do, one
//! more when it has answered for a while (additive increase, multiplicative decrease, as in TCP).

/// Answers for each request of the limit before the limit that was refused is tried once more: each
/// try may cost a refused request.
const ANSWERS_BEFORE_RETRY: usize = 16;

/// The limit of one host.
#[derive(Debug)]
pub struct Throttle {
    /// The limit when the host does not complain.
    most: usize,
    limit: usize,
    /// How many were under way when it last complained: one less is known to do, or nearly.
    refused_at: usize,
    /// Answers since the limit last changed.
    answers: usize,
    /// Counts the complaints that were heeded.
    round: u64,
}

impl Throttle {
    /// At most so many at once.
    pub fn new(most: usize) -> Throttle {
        Throttle { most, limit: most, refused_at: usize::MAX, answers: 0, round: 0 }
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether it is less than it could be.
    pub fn is_reduced(&self) -> bool {
        self.limit < self.most
    }

    /// To be remembered with a request that begins now.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Another limit by configuration.
    pub fn allow(&mut self, most: usize) {
        self.limit = if self.is_reduced() { self.limit.min(most) } else { most };
        self.most = most;
    }

    /// The host has refused a request that began in `round`, when so many were under way. Says whether
    /// that is news: those that began together are refused together, and count once.
    pub fn refused(&mut self, round: u64, under_way: usize) -> bool {
        if round != self.round {
            return false;
        }
        self.round += 1;
        self.answers = 0;
        self.refused_at = under_way;
        self.limit = self.limit.min((under_way / 2).max(1));
        true
    }

    /// The host has answered a request.
    pub fn answered(&mut self) {
        if !self.is_reduced() {
            return;
        }
        self.answers += 1;
        let is_known_to_do = self.limit + 1 < self.refused_at;
        let enough = if is_known_to_do { self.limit } else { ANSWERS_BEFORE_RETRY * self.limit };
        if self.answers < enough {
            return;
        }
        if self.limit >= self.refused_at {
            // It has borne for a while what it refused before.
            self.refused_at = usize::MAX;
        }
        self.limit += 1;
        self.answers = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a host that bears `bears` requests at once, all of the limit together; how many it refuses of
    /// about `count`.
    fn ask(throttle: &mut Throttle, bears: usize, count: usize) -> usize {
        let (mut asked, mut refused) = (0, 0);
        while asked < count {
            let (round, under_way) = (throttle.round(), throttle.limit());
            for place in 0..under_way {
                if place < bears {
                    throttle.answered();
                } else {
                    throttle.refused(round, under_way);
                    refused += 1;
                }
            }
            asked += under_way;
        }
        refused
    }

    #[test]
    fn line_33_the_limit_is_halved_once_for_those_that_began_together() {
        let mut throttle = Throttle::new(32);
        let round = throttle.round();
        assert!(throttle.refused(round, 8), "no more than 8 were under way");
        assert!(!throttle.refused(round, 7) && !throttle.refused(round, 1));
        assert_eq!(throttle.limit(), 4);
        for expected in [2, 1, 1] {
            assert!(throttle.refused(throttle.round(), throttle.limit()));
            assert_eq!(throttle.limit(), expected);
        }
    }

    #[test]
    fn line_33_it_settles_at_what_the_host_bears_and_seldom_asks_for_more() {
        let mut throttle = Throttle::new(32);
        ask(&mut throttle, 5, 100);
        let refused = ask(&mut throttle, 5, 10_000);
        assert!((10..200).contains(&refused), "{refused} of 10,000");
        assert!((2..=6).contains(&throttle.limit()), "{throttle:?}");
    }

    #[test]
    fn line_33_it_grows_back_when_the_host_bears_more() {
        let mut throttle = Throttle::new(32);
        ask(&mut throttle, 2, 200);
        assert_eq!(ask(&mut throttle, 32, 2000), 0);
        assert!(!throttle.is_reduced(), "{throttle:?}");
    }

    #[test]
    fn what_the_operator_allows_is_never_passed() {
        let mut throttle = Throttle::new(8);
        throttle.allow(4);
        assert_eq!((throttle.limit(), throttle.is_reduced()), (4, false));
        throttle.refused(throttle.round(), 4);
        throttle.allow(16);
        assert_eq!((throttle.limit(), throttle.is_reduced()), (2, true), "what the host said still holds");
        throttle.allow(1);
        assert_eq!((throttle.limit(), throttle.is_reduced()), (1, false));
    }
}
