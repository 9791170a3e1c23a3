use super::*;

#[test]
fn everything_in_one() {
    let playlist = multivariant(
        "#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Deutsch, laut\",LANGUAGE=\"de\",DEFAULT=YES,AUTOSELECT=YES,URI=\"de.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"en\",FORCED=YES,URI=\"en.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID=\"v\",NAME=\"v\"\n\
         #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-SESSION-DATA:DATA-ID=\"x\",VALUE=\"y\"\n\
         #EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer\",PATHWAY-ID=\"p\"\n\
         #EXT-X-STREAM-INF:AVERAGE-BANDWIDTH=1,NAME=\"hd\",FRAME-RATE=29.970,VIDEO-RANGE=SDR,HDCP-LEVEL=NONE,SCORE=2,STABLE-VARIANT-ID=\"id\",VIDEO=\"v\",CLOSED-CAPTIONS=NONE,BANDWIDTH=2000000,CODECS=\"avc1.4d401f,mp4a.40.2\",RESOLUTION=1280x720,AUDIO=\"a\",SUBTITLES=\"s\",PATHWAY-ID=\"p\"\n\
         720/x.m3u8\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n# a comment\nhttps://o.example/y\n",
    );
    let [first, second] = &playlist.variants[..] else { panic!("{:?}", playlist.variants) };
    assert_eq!(first.uri.as_str(), "https://h.example/a/720/x.m3u8");
    assert_eq!(first.bandwidth_bits_per_second, 2_000_000);
    assert_eq!((first.width, first.height), (Some(1280), Some(720)));
    assert_eq!(first.codecs.as_deref(), Some("avc1.4d401f,mp4a.40.2"));
    let groups = (first.audio.as_deref(), first.subtitles.as_deref(), first.pathway.as_deref());
    assert_eq!(groups, (Some("a"), Some("s"), Some("p")));
    assert_eq!(
        (first.average_bandwidth_bits_per_second, first.frame_rate, first.score),
        (Some(1), Some(29.97), Some(2.0))
    );
    let texts = [&first.video_range, &first.hdcp_level, &first.stable_id, &first.video, &first.closed_captions];
    assert_eq!(texts.map(|text| text.as_deref().unwrap()), ["SDR", "NONE", "id", "v", "NONE"]);
    assert_eq!(first.others, [("NAME".into(), "hd".into())]);
    let steering = playlist.steering.as_ref().unwrap();
    assert_eq!(steering.server.as_deref(), Some("https://h.example/steer"));
    assert_eq!(steering.pathway.as_deref(), Some("p"));
    assert_eq!(second.uri.as_str(), "https://o.example/y");
    let [audio, subtitles, video] = &playlist.renditions[..] else { panic!("{:?}", playlist.renditions) };
    assert_eq!((&*audio.name, audio.language.as_deref()), ("Deutsch, laut", Some("de")));
    assert!(audio.default && audio.autoselect && !audio.forced);
    assert_eq!(audio.uri.as_ref().unwrap().as_str(), "https://h.example/a/de.m3u8");
    assert!(subtitles.forced && !subtitles.default);
    assert_eq!((video.kind, &video.uri), (RenditionKind::Video, &None));
    assert_eq!(playlist.session_keys[0].uri.as_deref(), Some("https://h.example/a/k"));
    assert_eq!(playlist.diagnostics, []);
}

#[test]
fn a_variant_survives_its_odd_attributes() {
    let cases = [
        "CODECS=\"avc1\"",
        "BANDWIDTH=x",
        "BANDWIDTH=1.5",
        "BANDWIDTH=1,CODECS=\"\"",
        "BANDWIDTH=1,RESOLUTION=wide",
        "BANDWIDTH=1,AUDIO=unquoted",
        "BANDWIDTH=1,CODECS=\"open",
        "BANDWIDTH=1,x,y",
        "",
    ];
    for list in cases {
        let playlist = multivariant(&format!("#EXT-X-STREAM-INF:{list}\nx\n#EXT-X-STREAM-INF:BANDWIDTH=7\ny"));
        let uris: Vec<_> = playlist.variants.iter().map(|variant| variant.uri.path()).collect();
        assert_eq!(uris, ["/a/x", "/a/y"], "{list}");
    }
    let odd = multivariant("#EXT-X-STREAM-INF:BANDWIDTH=1.5,RESOLUTION=\"640X360\",AUDIO=a,CODECS=\"\"\nx");
    let variant = &odd.variants[0];
    assert_eq!((variant.bandwidth_bits_per_second, variant.height), (1, Some(360)));
    assert_eq!((variant.audio.as_deref(), variant.codecs.as_deref()), (Some("a"), None));
}

#[test]
fn what_has_no_uri_or_no_tag_is_noted() {
    let playlist = multivariant(
        "stray\n#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\nx\nstray\n#EXT-X-STREAM-INF:BANDWIDTH=3",
    );
    assert_eq!(playlist.variants.len(), 1);
    assert_eq!(playlist.variants[0].bandwidth_bits_per_second, 2);
    assert_eq!(playlist.diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 4, 6, 7]);
}

#[test]
fn uris_that_may_not_be_asked_are_refused() {
    for uri in ["file:///etc/passwd", "http://["] {
        assert_fails(read(format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}")), UrlInvalid, "line 3: ");
        let media = format!("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"{uri}\"");
        assert_fails(read(media), UrlInvalid, "line 2: ");
    }
}

#[test]
fn a_session_key_is_only_a_hint() {
    let playlist = multivariant("#EXT-X-SESSION-KEY:METHOD=AES-128\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx");
    assert!(playlist.session_keys.is_empty());
    assert_eq!(playlist.diagnostics[0].message, "left out: line 2: EXT-X-SESSION-KEY: METHOD=AES-128 without URI");
}

#[test]
fn steering_that_cannot_be_followed_does_no_harm() {
    for (list, diagnostics) in [
        ("PATHWAY-ID=\"p\"", 1),
        ("SERVER-URI=\"\"", 1),
        ("SERVER-URI=\"data:,x\"", 0),
        ("SERVER-URI=\"file:///etc/passwd\"", 0),
        ("x,SERVER-URI=\"s\"", 1),
        ("SERVER-URI=\"s\"\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"s\"", 1),
    ] {
        let playlist = multivariant(&format!("#EXT-X-CONTENT-STEERING:{list}\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx"));
        assert_eq!(playlist.diagnostics.len(), diagnostics, "{list}: {:?}", playlist.diagnostics);
        assert!(playlist.steering.is_some(), "{list}");
    }
}

#[test]
fn what_cannot_be_read_of_a_variant_is_noted() {
    for list in ["FRAME-RATE=x", "FRAME-RATE=-1", "SCORE=", "AVERAGE-BANDWIDTH=much", "RESOLUTION=1"] {
        let playlist = multivariant(&format!("#EXT-X-STREAM-INF:BANDWIDTH=1,{list}\nx"));
        assert_eq!(playlist.diagnostics.len(), 1, "{list}: {:?}", playlist.diagnostics);
        assert!(playlist.variants[0].others.is_empty());
    }
}
