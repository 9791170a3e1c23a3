// Pushes one element as a backend with the npm package "ioredis" does.
// Usage: node push-ioredis.mjs URL LIST JSON
import { Redis } from "ioredis";

const [url, list, json] = process.argv.slice(2);
const client = new Redis(url, { lazyConnect: true, retryStrategy: null });
await client.connect();
await client.lpush(list, json);
await client.quit();
