//! What is done to whom, how often, and until when.

use std::ops::Range;
use std::time::Duration;

use crate::element::Kind;
use crate::films::{Doom, Shape};
use crate::support::daemon::Builder;
use crate::{instance, media, server};

/// Things with how often each comes, of the sum of all.
pub type Shares<T> = &'static [(T, u32)];

/// One by chance.
pub fn pick<T: Copy>(rng: &mut fastrand::Rng, shares: Shares<T>) -> T {
    let sum: u32 = shares.iter().map(|(_, share)| share).sum();
    let mut throw = rng.u32(..sum);
    for (thing, share) in shares {
        match throw.checked_sub(*share) {
            Some(rest) => throw = rest,
            None => return *thing,
        }
    }
    unreachable!("the throw is below the sum")
}

/// When the instances are left in peace.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// After so many have been killed.
    Kills(usize),
    /// After this time.
    Time(Duration),
}

/// One driver: the pauses between its steps, in ms, and its steps.
pub struct Steps<T: 'static> {
    pub pause: Range<u64>,
    pub shares: Shares<T>,
}

pub struct Plan {
    pub end: End,
    pub kinds: Shares<Kind>,
    /// Between two orders, in ms.
    pub orders: Range<u64>,
    pub server: Steps<server::Step>,
    pub instances: Steps<instance::Step>,
    /// What is done to the connections to the media host.
    pub media: Option<Steps<media::Step>>,
    /// Of a hundred things that the origin is asked for so many are first answered wrong.
    pub troubles: u32,
    /// More settings of the instance in this slot.
    pub settings: fn(Builder, usize) -> Builder,
    /// Between two looks at what the instances use, if anybody looks.
    pub samples: Option<Duration>,
}

impl Plan {
    /// Everything dies.
    pub fn chaos(kills: usize) -> Plan {
        Plan {
            end: End::Kills(kills),
            kinds: &[
                (Kind::Quick, 43),
                (Kind::Slow, 25),
                (Kind::Film(Shape::Encrypted), 5),
                (Kind::Flaky, 12),
                (Kind::Broken, 5),
                (Kind::Missing, 4),
                (Kind::Rubbish, 6),
            ],
            orders: 5..60,
            server: Steps {
                pause: 1_000..5_000,
                shares: &[
                    (server::Step::Kill, 35),
                    (server::Step::Stop, 25),
                    (server::Step::KillClients, 20),
                    (server::Step::FlushScripts, 20),
                ],
            },
            instances: Steps {
                pause: 50..1_500,
                shares: &[
                    (instance::Step::Kill, 46),
                    (instance::Step::KillWhileStopped, 4),
                    (instance::Step::Drain, 7),
                    (instance::Step::HurriedDrain, 3),
                    (instance::Step::ShortStop, 4),
                    (instance::Step::LongStop, 6),
                    (instance::Step::Cut, 12),
                    (instance::Step::Freeze, 8),
                    (instance::Step::SwallowAnswers, 10),
                ],
            },
            media: None,
            troubles: 0,
            settings: |builder, _| builder,
            samples: None,
        }
    }

    /// The instances live, and everything around them has its moods. `haste` is how many times as fast as in a
    /// long run everything goes.
    pub fn soak(time: Duration, haste: u64) -> Plan {
        Plan {
            end: End::Time(time),
            kinds: &[
                (Kind::Quick, 25),
                (Kind::Slow, 10),
                (Kind::Flaky, 5),
                (Kind::Film(Shape::Clear), 7),
                (Kind::Film(Shape::Encrypted), 8),
                (Kind::Film(Shape::RotatingKeys), 7),
                (Kind::Film(Shape::Ranges), 7),
                (Kind::Film(Shape::Fragments), 7),
                (Kind::Film(Shape::EncryptedFragments), 7),
                (Kind::Doomed(Doom::Protected), 2),
                (Kind::Doomed(Doom::Live), 2),
                (Kind::Doomed(Doom::Gone), 2),
                (Kind::Doomed(Doom::BadKey), 2),
                (Kind::Doomed(Doom::Garbled), 2),
                (Kind::Broken, 2),
                (Kind::Missing, 2),
                (Kind::Rubbish, 3),
            ],
            orders: 600 / haste..1_600 / haste,
            server: Steps {
                pause: 10_000 / haste..30_000 / haste,
                shares: &[
                    (server::Step::Kill, 20),
                    (server::Step::Stop, 20),
                    (server::Step::KillClients, 15),
                    (server::Step::FlushScripts, 10),
                    (server::Step::ReadOnly, 15),
                    (server::Step::Full, 20),
                ],
            },
            instances: Steps {
                pause: 5_000 / haste..25_000 / haste,
                shares: &[
                    (instance::Step::Cut, 30),
                    (instance::Step::Freeze, 25),
                    (instance::Step::SwallowAnswers, 25),
                    (instance::Step::Delay, 20),
                ],
            },
            media: Some(Steps {
                pause: 5_000 / haste..25_000 / haste,
                shares: &[(media::Step::Cut, 40), (media::Step::Freeze, 30), (media::Step::Delay, 30)],
            }),
            troubles: 12,
            settings: |builder, slot| {
                // One of them keeps films as they come: there every byte is compared.
                builder
                    .set("remux.container", if slot == 0 { "auto" } else { "ts" })
                    .set("http.idle_timeout_seconds", 4)
                    .set("report.retry_delay_seconds", 1)
            },
            samples: Some(Duration::from_millis(5_000 / haste)),
        }
    }
}
