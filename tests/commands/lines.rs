//! Forty-five things that hostile or broken servers do, and where each is shown to do no harm.

use std::path::Path;

/// Number, what comes, the file with the tests, and their names.
const LINES: &[(u8, &str, &str, &[&str])] = &[
    (1, "ten million segments", "tests/commands/one_over.rs", &["line_2_and_3_a_playlist_its_lines_and_its_segments"]),
    (2, "a playlist without end", "tests/commands/playlists.rs", &["a_playlist_over_its_limits"]),
    (
        3,
        "a line of 100 MB, attributes without end",
        "src/hls/playlist/tests/mod.rs",
        &["no_kind_of_thing_is_without_limit"],
    ),
    (4, "a master that lists itself", "tests/commands/playlists.rs", &["refused_before_a_segment_is_asked_for"]),
    (5, "a media playlist with variants", "src/hls/playlist/tests/mod.rs", &["both_kinds_at_once_are_refused"]),
    (
        6,
        "no segments, or all of them missing",
        "tests/commands/playlists.rs",
        &["refused_before_a_segment_is_asked_for"],
    ),
    (7, "an error page with status 200", "tests/commands/playlists.rs", &["what_came_in_place_of_a_playlist"]),
    (
        8,
        "CR, BOM, UTF-16, Latin-1",
        "src/hls/playlist/tests/mod.rs",
        &["utf_16_is_refused_by_name", "wrong_utf_8_matters_only_where_it_must_be_exact"],
    ),
    (9, "ranges that overflow or lie past the end", "tests/commands/ranges.rs", &["a_range_past_the_end_is_refused"]),
    (
        10,
        "redirects without end",
        "tests/commands/redirects.rs",
        &["five_redirects_are_followed_and_six_are_not", "a_redirect_that_leads_back_ends"],
    ),
    (11, "redirects to other schemes", "tests/commands/redirects.rs", &["redirects_to_another_scheme_are_refused"]),
    (
        12,
        "internal addresses",
        "tests/commands/addresses.rs",
        &[
            "line_12_a_segment_on_an_internal_host_is_not_asked_for_under_any_name",
            "line_12_no_place_of_a_stream_leads_inside",
            "line_12_no_redirect_leads_inside",
            "line_12_a_manifest_names_no_internal_host",
        ],
    ),
    (
        13,
        "a name that leads elsewhere a moment later",
        "src/http/media_client.rs",
        &["a_name_that_leads_elsewhere_a_moment_later_is_checked_again_and_what_was_checked_is_connected_to"],
    ),
    (14, "from https down to http", "src/http/media_client.rs", &["redirects_never_lead_down"]),
    (
        15,
        "a key on an internal host",
        "tests/commands/addresses.rs",
        &["line_15_a_key_on_an_internal_host_is_fetched_when_it_is_allowed_and_only_then"],
    ),
    (16, "keys that are none", "tests/commands/one_over.rs", &["line_16_a_key_has_16_bytes_and_nothing_is_guessed"]),
    (17, "a wrong IV", "src/hls/playlist/key.rs", &["an_iv_is_never_guessed"]),
    (18, "ciphertext that is damaged", "src/hls/assemble.rs", &["damaged_ciphertext_is_refused"]),
    (
        19,
        "padding that was left out",
        "tests/commands/faults.rs",
        &["padding_that_a_packager_leaves_out_is_not_missed"],
    ),
    (
        20,
        "more than was declared",
        "tests/commands/ranges.rs",
        &["answers_that_are_not_what_was_asked_for_are_refused"],
    ),
    (21, "less than was declared", "tests/commands/faults.rs", &["a_broken_segment_of_a_synthetic_stream"]),
    (22, "an empty segment", "tests/commands/faults.rs", &["a_broken_segment_of_a_real_stream"]),
    (
        23,
        "another range than was asked for",
        "tests/commands/ranges.rs",
        &["answers_that_are_not_what_was_asked_for_are_refused"],
    ),
    (
        24,
        "the whole file in place of a range",
        "tests/commands/ranges.rs",
        &["a_server_that_ignores_ranges_is_cut_to_them"],
    ),
    (25, "a byte a second", "tests/commands/one_over.rs", &["line_25_a_body_that_is_never_silent_and_never_fast"]),
    (26, "a segment without end", "tests/commands/one_over.rs", &["line_26_a_segment_and_a_job"]),
    (27, "gzip bombs", "src/http/encoding.rs", &["a_bomb_is_left_before_it_has_filled_the_memory"]),
    (28, "pictures in front of media", "src/hls/prefix.rs", &["pictures_before_packets_are_measured"]),
    (
        29,
        "holes and scrambling in a transport stream",
        "tests/commands/inspection.rs",
        &["a_hole_inside_a_segment_is_never_silent"],
    ),
    (
        30,
        "protection behind a clear playlist",
        "tests/commands/playlists.rs",
        &["protected_media_behind_a_clear_playlist"],
    ),
    (
        31,
        "links that expire on the way",
        "tests/commands/renewal.rs",
        &["links_that_expire_are_asked_for_again_and_the_download_goes_on"],
    ),
    (32, "another stream after that", "tests/commands/renewal.rs", &["what_is_no_copy_is_never_spliced_in"]),
    (
        33,
        "Retry-After of all kinds",
        "tests/commands/limits.rs",
        &["a_host_that_says_retry_after_is_left_alone_as_a_whole"],
    ),
    (
        34,
        "404 for one segment, 5xx for all",
        "tests/commands/renewal.rs",
        &["a_copy_takes_over_from_a_host_that_keeps_failing"],
    ),
    (35, "broken TLS", "tests/commands/tls.rs", &["line_35_what_is_broken_is_refused_and_there_is_no_way_down"]),
    (
        36,
        "hostile titles",
        "src/media/names/tests.rs",
        &["hostile_titles_become_one_harmless_component", "every_name_is_safe_short_and_alone"],
    ),
    (37, "long and equal titles", "src/media/names/tests.rs", &["line_37_a_thousand_equal_names_are_all_there"]),
    (38, "a full disk", "tests/commands/disk.rs", &["a_full_disk_leaves_nothing_finished_and_is_gone_on_with"]),
    (39, "death at any byte", "src/hls/sink.rs", &["only_recorded_units_survive_a_kill"]),
    (
        40,
        "children that hang, crash and lie",
        "src/child/tests.rs",
        &[
            "line_40_a_child_has_three_descriptors_no_core_file_and_the_memory_that_it_is_given",
            "a_child_that_ignores_sigterm_is_killed_with_its_group",
        ],
    ),
    (41, "sound of another length", "tests/commands/timeline.rs", &["picture_and_sound_are_in_step"]),
    (42, "an event that changes", "tests/commands/renewal.rs", &["an_event_that_changes_is_no_event"]),
    (43, "floods of cookies and headers", "tests/commands/one_over.rs", &["line_43_the_head_of_an_answer"]),
    (44, "odd URLs", "src/http/mod.rs", &["only_http_without_credentials_is_asked"]),
    (45, "a key for every segment", "src/hls/key.rs", &["keys_are_remembered_up_to_a_bound"]),
];

#[test]
fn each_line_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (place, (number, what, file, tests)) in LINES.iter().enumerate() {
        assert_eq!(usize::from(*number), place + 1);
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for test in *tests {
            assert!(text.contains(&format!("fn {test}(")), "line {number} ({what}): {test} is not in {file}");
        }
    }
}
