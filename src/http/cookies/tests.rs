use super::*;

const FILE: &str = "# Netscape HTTP Cookie File\n\
    .example.com\tTRUE\t/\tFALSE\t0\tsession\tabc\n\
    learn.example.com\tFALSE\t/course\tTRUE\t4000000000\ttoken\tx=y\n\
    #HttpOnly_learn.example.com\tFALSE\t/\tFALSE\t1000\tstale\told\n\
    10.0.0.1\tTRUE\t/\tFALSE\t0\tnumber\t1\n\
    rubbish line\n";

/// A jar with its file.
struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    jar: Arc<CookieJar>,
}

fn world(text: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookies.txt");
    std::fs::write(&path, text).unwrap();
    let jar = Arc::new(CookieJar::open(&path).unwrap());
    World { _folder: folder, path, jar }
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn header(jar: &CookieJar, to: &str) -> String {
    jar.header_for(&url(to)).map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// The same, with the file as it is now.
fn header_now(jar: &CookieJar, to: &str) -> String {
    jar.file.iter().for_each(WatchedFile::is_due);
    header(jar, to)
}

fn set(jar: &CookieJar, from: &str, cookies: &[&str]) {
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        headers.append(SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
    }
    jar.store(&url(from), &headers);
}

#[test]
fn cookies_go_where_they_belong() {
    let jar = world(FILE).jar;
    assert_eq!(header(&jar, "https://learn.example.com/course/1"), "token=x=y; session=abc");
    assert_eq!(header(&jar, "https://learn.example.com/course"), "token=x=y; session=abc");
    assert_eq!(header(&jar, "https://learn.example.com/courses"), "session=abc");
    assert_eq!(header(&jar, "http://learn.example.com/course"), "session=abc");
    assert_eq!(header(&jar, "http://a.learn.example.com/"), "session=abc");
    assert_eq!(header(&jar, "http://example.com/"), "session=abc");
    assert_eq!(header(&jar, "http://notexample.com/"), "");
    assert_eq!(header(&jar, "http://example.com.evil.example/"), "");
    assert_eq!(header(&jar, "http://10.0.0.1/"), "number=1");
    assert_eq!(header(&jar, "http://[::1]/"), "");
    assert!(jar.header_for(&url("http://example.com/")).unwrap().is_sensitive());
}

#[test]
fn debug_shows_no_values() {
    let shown = format!("{:?}", world(FILE).jar);
    assert!(shown.contains("session@example.com") && !shown.contains("abc") && !shown.contains("x=y"), "{shown}");
}

#[test]
fn a_file_that_changes_is_read_again() {
    let World { path, jar, .. } =
        &world("h.example\tFALSE\t/\tFALSE\t0\ts\t1\nh.example\tFALSE\t/\tFALSE\t0\tgone\t1\n");
    let to = "http://h.example/";
    assert_eq!(header_now(jar, to), "s=1; gone=1");
    std::fs::write(path, "h.example\tFALSE\t/\tFALSE\t0\ts\t2\n").unwrap();
    assert_eq!(header_now(jar, to), "s=2");
    // What cannot be used leaves the old cookies.
    for nonsense in ["", "<html>", "# comment\n"] {
        std::fs::write(path, nonsense).unwrap();
        assert_eq!(header_now(jar, to), "s=2", "{nonsense:?}");
    }
    std::fs::remove_file(path).unwrap();
    jar.read_again();
    assert_eq!(header_now(jar, to), "s=2");
    std::fs::write(path, "h.example\tFALSE\t/\tFALSE\t0\ts\t3\n").unwrap();
    assert_eq!(header_now(jar, to), "s=3");
}

#[test]
fn what_a_server_sets_is_used_until_the_file_is_newer() {
    let World { path, jar, .. } = &world("h.example\tFALSE\t/\tFALSE\t0\ts\t1\n");
    let to = "https://h.example/";
    set(jar, to, &["s=rotated; Path=/", "beside=1", "elsewhere=1; Domain=other.example"]);
    assert_eq!(header(jar, to), "s=rotated; beside=1");
    set(jar, to, &["s=; Max-Age=0; Path=/"]);
    assert_eq!(header(jar, to), "beside=1");
    assert_eq!(jar.of_file(Some(&url(to))).unwrap().deleted, ["s"]);
    assert!(!std::fs::read_to_string(path).unwrap().contains("rotated"), "the file is ours to read only");
    std::fs::write(path, "h.example\tFALSE\t/\tFALSE\t0\ts\tnew\n").unwrap();
    assert_eq!(header_now(jar, to), "s=new; beside=1");
    set(jar, to, &["beside=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(header(jar, to), "s=new");
}

#[test]
fn what_a_server_has_rotated_stays_until_the_file_says_something_else() {
    let line = |name: &str, value: &str| format!("h.example\tFALSE\t/\tFALSE\t0\t{name}\t{value}\n");
    let World { path, jar, .. } = &world(&(line("s", "1") + &line("t", "1")));
    let to = "https://h.example/";
    set(jar, to, &["s=rotated; Path=/", "t=; Max-Age=0; Path=/"]);
    jar.read_again();
    assert_eq!(header(jar, to), "s=rotated");
    // The same file, written once more.
    std::fs::write(path, line("s", "1") + &line("t", "1")).unwrap();
    assert_eq!(header_now(jar, to), "s=rotated");
    // Another cookie of it is new.
    std::fs::write(path, line("s", "1") + &line("t", "2")).unwrap();
    assert_eq!(header_now(jar, to), "s=rotated; t=2");
    std::fs::write(path, line("s", "2")).unwrap();
    assert_eq!(header_now(jar, to), "s=2");
}

#[test]
fn a_server_without_tls_does_not_replace_what_needs_it() {
    let shared = world(".h.example\tTRUE\t/course\tTRUE\t0\ts\t1\n").jar;
    let job = shared.for_job();
    let (plain, from) = ("http://media.h.example/course/1", "https://media.h.example/course/1");
    let evil =
        ["s=evil; Path=/course; Domain=h.example", "s=evil; Path=/course", "s=evil; Path=/course/1; Domain=h.example"];
    for jar in [&shared, &job] {
        set(jar, plain, &evil);
        assert_eq!(header(jar, from), "s=1");
    }
    set(&job, plain, &["s=elsewhere; Path=/courses", "other=1; Path=/"]);
    assert_eq!(header(&job, from), "s=1; other=1");
    assert_eq!(header(&job, "https://media.h.example/courses"), "s=elsewhere; other=1");
    // Nor what only the job has, nor from below.
    set(&job, from, &["own=1; Secure; Path=/"]);
    set(&job, "http://media.h.example/", &["own=evil; Domain=h.example"]);
    assert_eq!(header(&job, from), "s=1; other=1; own=1");
    set(&job, from, &evil[..1]);
    assert_eq!(header(&shared, from), "s=evil", "with TLS it may");
}

#[test]
fn jobs_share_the_login_and_nothing_else() {
    let shared = world(".example.com\tTRUE\t/\tFALSE\t0\tsession\t1\n").jar;
    let (one, other) = (shared.for_job(), shared.for_job());
    let media = "https://media.example.com/";
    set(&one, media, &["policy=of-one; Domain=example.com; Path=/"]);
    set(&other, media, &["policy=of-other; Domain=example.com; Path=/"]);
    set(&one, media, &["session=2; Domain=example.com; Path=/"]);
    assert_eq!(header(&one, media), "policy=of-one; session=2");
    assert_eq!(header(&other, media), "policy=of-other; session=2");
    assert_eq!(header(&shared, media), "session=2");
    // What the enrollment service has set for all is no cookie of the file either.
    set(&shared, media, &["region=any"]);
    set(&one, media, &["region=of-one"]);
    assert_eq!(header(&one, media), "policy=of-one; region=of-one; session=2");
    assert_eq!(header(&other, media), "policy=of-other; session=2; region=any");
}

#[test]
fn line_43_a_flood_of_cookies_is_bounded_and_takes_nothing_of_the_file() {
    let jar = world("h.example\tFALSE\t/\tFALSE\t0\ts\t1\n").jar;
    for number in 0..200 {
        set(&jar, "https://h.example/", &[&format!("n{number}=v")]);
    }
    assert_eq!(header(&jar, "https://h.example/").split("; ").count(), 1 + MOST_OF_A_DOMAIN);
    for host in 0..2 * MOST_SET {
        set(&jar, &format!("https://{host}.example/"), &["n=v"]);
    }
    assert_eq!(jar.lock().cookies.len(), 1 + MOST_SET);
    assert_eq!(header(&jar, "https://h.example/"), "s=1");
    let many: Vec<String> = (0..200).map(|number| format!("n{number}=v")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    set(&jar, "https://flood.example/", &many);
    assert_eq!(header(&jar, "https://flood.example/").split("; ").count(), MOST_OF_ONE_ANSWER);
}

#[test]
fn an_operator_is_told_which_cookies_have_expired() {
    let World { path, jar, .. } = &world(FILE);
    let told = jar.of_file(Some(&url("https://learn.example.com/course/"))).unwrap();
    assert_eq!((told.count, told.expiries.len()), (3, 2));
    let text = format!("the cookies in {} (\"stale\" expired at 1970-01-01T00:16:40Z)", path.display());
    assert_eq!(told.to_string(), text);
    assert_eq!(jar.of_file(Some(&url("https://nowhere.example/"))).unwrap().count, 0);
    assert_eq!(jar.of_file(None).unwrap().count, 4);
    assert_eq!(CookieJar::default().of_file(None), None);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_at_the_start() {
    let failure = CookieJar::open(Path::new("/nonexistent/cookies.txt")).unwrap_err();
    assert!(failure.message.contains("the cookies file /nonexistent/cookies.txt cannot be read"), "{failure}");
}
