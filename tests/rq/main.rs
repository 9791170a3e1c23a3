//! Real RQ, in three versions, beside instances of ours: its producers enqueue, we run, and its own
//! tools say what they see.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod python;
mod running;
mod sharing;
mod world;
