//! The settings of what the backend is told.

use super::source::Source;
use super::{ReportSettings, seconds};

pub(super) fn read(s: &mut Source) -> ReportSettings {
    ReportSettings {
        api_base_url: s.optional_url(
            "report.api_base_url",
            Some("API_BASE_URL"),
            "Base URL of the backend; /api/v1/webhook/finalize is called below it.",
        ),
        secret: s.reloadable().secret("report.secret", Some("API_SECRET_KEY"), "File with the secret that signs the finalize call."),
        secret_in_body: s.reloadable().boolean(
            "report.secret_in_body",
            true,
            "Whether the finalize body holds secret_key, as the old backend wants.",
        ),
        webhook_secret: s.reloadable().secret(
            "report.webhook_secret",
            None,
            "File with the secret of the webhook-signature header (Standard Webhooks: whsec_ and base64); report.secret if not set.",
        ),
        timeout: seconds(s.reloadable().integer("report.timeout_seconds", 30, 1..=600, "Limit for the finalize call.")),
        retry_delay: seconds(s.reloadable().integer(
            "report.retry_delay_seconds",
            5,
            1..=3600,
            "Pause before a call that was not accepted is made again; it grows to half an hour.",
        )),
        give_up_after: seconds(s.reloadable().integer(
            "report.give_up_after_seconds",
            86_400,
            0..=2_592_000,
            "How long a call that is not accepted is made again.",
        )),
        on_failure: s.boolean(
            "report.on_failure",
            false,
            "Whether the backend is told of tasks that failed for good: /api/v1/webhook/failed is called.",
        ),
    }
}
