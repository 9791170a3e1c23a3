// Pushes one element as a backend with the npm package "redis" does.
// Usage: node push-redis.mjs URL LIST JSON
import { createClient } from "redis";

const [url, list, json] = process.argv.slice(2);
const client = createClient({ url, socket: { reconnectStrategy: false } });
await client.connect();
await client.lPush(list, json);
await client.close();
