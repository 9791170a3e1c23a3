// Checks a call that a backend got as a Node backend would: the old signature with node:crypto, the
// Standard Webhooks headers with the npm package "standardwebhooks".
// Usage: node check-call.mjs SECRET WEBHOOK_SECRET < {"path":…,"headers":{…},"body":base64}
import { createHmac, timingSafeEqual } from "node:crypto";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const [secret, webhookSecret] = process.argv.slice(2);
const { path, headers, body } = JSON.parse(await text(process.stdin));
const bytes = Buffer.from(body, "base64");
const call = JSON.parse(bytes.toString("utf8"));

const signed = path.endsWith("/failed")
  ? `failed${call.task_id}${call.kind}${call.message}${call.timestamp}`
  : `${call.task_id}${call.folder_name}${call.timestamp}`;
const expected = createHmac("sha256", secret).update(signed, "utf8").digest("hex");
if (headers["x-timestamp"] !== call.timestamp) throw new Error("X-Timestamp is not the timestamp of the body");
if (!timingSafeEqual(Buffer.from(headers["x-signature"]), Buffer.from(expected))) throw new Error("X-Signature is wrong");
if (JSON.stringify(call) !== bytes.toString("utf8")) throw new Error("the body is not what JSON.stringify writes");

// Its own key, or the bytes of the old one.
const key = webhookSecret || `whsec_${Buffer.from(secret, "utf8").toString("base64")}`;
new Webhook(key).verify(bytes.toString("utf8"), headers);
