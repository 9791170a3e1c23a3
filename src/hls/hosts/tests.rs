use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn hosts(max_requests: usize) -> Hosts {
    Hosts::new(max_requests, 1000, Metrics::new())
}

fn refused(seconds: Option<u64>, kind: FailureKind) -> Failure {
    let is_overload = kind == FailureKind::RateLimited;
    Failure { retry_after: seconds.map(Duration::from_secs), is_overload, ..Failure::new(kind, "no") }
}

/// Asks once; the host answers with this failure.
async fn fails(host: &Host, failure: Failure) -> Failure {
    host.ask(async { Err::<(), _>(failure) }).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn line_33_a_host_that_asks_for_a_pause_gets_it_from_everybody() {
    let hosts = hosts(0);
    let one = hosts.of(&url("https://a.example/x"));
    fails(&one, refused(None, FailureKind::RateLimited)).await;
    fails(&one, refused(Some(9), FailureKind::NotFound)).await;
    let start = Instant::now();
    let asked = [one.clear().await.unwrap(), one.clear().await.unwrap()];
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody has asked for a pause yet");
    for (asking, seconds) in asked.into_iter().zip([9, 2]) {
        asking.failed(&refused(Some(seconds), FailureKind::RateLimited));
    }
    for other in ["https://b.example/x", "http://a.example/x"] {
        hosts.of(&url(other)).ask(async { Ok(()) }).await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "other hosts and ports are not asked to wait");
    hosts.of(&url("https://a.example:443/y?z")).ask(async { Ok(()) }).await.unwrap();
    let waited = start.elapsed().as_secs_f64();
    assert!((9.0..=9.6).contains(&waited), "{waited}: a shorter pause does not end a longer one");
    fails(&one, refused(Some(1 << 40), FailureKind::RateLimited)).await;
    assert!(one.state().pause().unwrap() <= LONGEST_PAUSE);
}

#[tokio::test]
async fn requests_of_a_host_are_bounded_and_hosts_are_forgotten() {
    let hosts = hosts(1);
    let host = hosts.of(&url("https://a.example/"));
    let first = host.admit().await;
    let second = host.admit();
    tokio::pin!(second);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    hosts.limit(0, 1000);
    let second = second.await;
    hosts.limit(1, 1000);
    drop(first);
    let third = host.admit();
    tokio::pin!(third);
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    drop(second);
    tokio::task::yield_now().await;
    assert!(futures_util::poll!(third.as_mut()).is_ready());
    for number in 0..3 * MAX_HOSTS {
        hosts.of(&url(&format!("https://{number}.example/")));
    }
    assert!(hosts.known().hosts.len() <= MAX_HOSTS);
    assert!(Arc::ptr_eq(&host, &hosts.of(&url("https://a.example/"))), "one that is in use is kept");
}

#[tokio::test]
async fn line_33_a_host_with_too_much_to_do_gets_half_as_many_requests_and_then_more_again() {
    let hosts = hosts(16);
    let host = hosts.of(&url("https://a.example/"));
    let mut permits = Vec::new();
    for _ in 0..8 {
        permits.push(host.admit().await);
    }
    let begun = [host.clear().await.unwrap(), host.clear().await.unwrap()];
    begun.into_iter().for_each(|asking| asking.failed(&refused(None, FailureKind::RateLimited)));
    permits.clear();
    tokio::task::yield_now().await;
    assert_eq!(host.requests.semaphore().available_permits(), 4, "half of those that were under way, once");
    assert_eq!(hosts.metrics.host_slowdowns.get(), 1);
    for _ in 0..4 {
        host.ask(async { Ok(()) }).await.unwrap();
    }
    assert_eq!(host.requests.semaphore().available_permits(), 5);
    for _ in 0..10_000 {
        host.ask(async { Ok(()) }).await.unwrap();
    }
    assert_eq!(host.requests.semaphore().available_permits(), 16);
    assert!(!host.is_troubled.load(Ordering::Relaxed), "what it answers is not counted any more");
}

#[tokio::test(start_paused = true)]
async fn line_34_a_host_that_is_down_is_asked_by_one_for_all() {
    let hosts = hosts(0);
    let host = hosts.of(&url("https://a.example/"));
    let (asked, is_down) = (AtomicUsize::new(0), AtomicBool::new(true));
    let ask = || {
        host.ask(async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            match is_down.load(Ordering::Relaxed) {
                true => Err(refused(None, FailureKind::ServerError)),
                false => Ok(()),
            }
        })
    };
    let all = async || futures_util::future::join_all((0..1000).map(|_| ask())).await;
    // Those that are under way when it goes down fail all.
    assert!(all().await.iter().all(Result::is_err));
    assert_eq!(asked.load(Ordering::Relaxed), 1000);
    assert_eq!(hosts.metrics.host_outages.get(), 1);
    for round in 1..=8 {
        let answers = all().await;
        let told = answers.iter().filter_map(|answer| answer.as_ref().err()).filter(|failure| {
            failure.kind == FailureKind::ServerError && failure.message.contains("requests in a row have failed")
        });
        assert_eq!(told.count(), 999);
        assert_eq!(asked.load(Ordering::Relaxed), 1000 + round, "one goes ahead");
    }
    // The one that has gone ahead is stopped: another one goes.
    let start = Instant::now();
    let stopped = tokio::time::timeout(Duration::from_secs(20), host.clear()).await.unwrap().unwrap();
    assert!(start.elapsed() > Duration::from_secs(7), "pauses grow: {:?}", start.elapsed());
    is_down.store(false, Ordering::Relaxed);
    let waiting = all();
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    drop(stopped);
    assert!(waiting.await.iter().all(Result::is_ok), "it answers again, and all come through");
    assert!(!host.is_troubled.load(Ordering::Relaxed));
}
