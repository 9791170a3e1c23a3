//! Whether something grows.

/// A quantity over time: pairs of seconds and value, in the order of time.
pub type Series = Vec<(f64, f64)>;

/// By how much it grows in a second: the median of the slopes between all pairs (Theil and Sen), which a few odd
/// values do not move.
pub fn slope(series: &[(f64, f64)]) -> f64 {
    let pairs = series.iter().enumerate().flat_map(|(index, earlier)| {
        series[index + 1..].iter().map(move |later| (later.1 - earlier.1) / (later.0 - earlier.0))
    });
    median(pairs.filter(|slope| slope.is_finite()).collect())
}

/// 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The medians of the first and of the last quarter.
pub fn quarters(series: &[(f64, f64)]) -> (f64, f64) {
    let quarter = series.len().div_ceil(4);
    let of = |part: &[(f64, f64)]| median(part.iter().map(|(_, value)| *value).collect());
    (of(&series[..quarter]), of(&series[series.len() - quarter..]))
}

/// A value for each 5 s of an hour: a level with noise, and what a leak adds in the hour.
#[cfg(test)]
fn an_hour(leak: f64) -> Series {
    let mut rng = fastrand::Rng::with_seed(7);
    let value = |step: u32, noise: f64| {
        // Now and then it is busy.
        let busy = if step % 50 < 3 { 40.0 } else { 0.0 };
        (f64::from(step * 5), 100.0 + busy + 10.0 * noise + leak * f64::from(step) / 720.0)
    };
    (0..720).map(|step| value(step, rng.f64())).collect()
}

#[test]
fn what_does_not_grow_has_no_slope_and_what_leaks_a_little_has() {
    let (still, leaking) = (an_hour(0.0), an_hour(5.0));
    assert!((slope(&still) * 3600.0).abs() < 0.5, "{}", slope(&still) * 3600.0);
    assert!((slope(&leaking) * 3600.0 - 5.0).abs() < 0.5, "{}", slope(&leaking) * 3600.0);
    let ((first, last), (lower, upper)) = (quarters(&still), quarters(&leaking));
    assert!((last - first).abs() < 1.0 && upper - lower > 3.0, "{first} {last} {lower} {upper}");
    assert_eq!((slope(&[]), median(Vec::new())), (0.0, 0.0));
}
