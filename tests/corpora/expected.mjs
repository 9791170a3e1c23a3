// What m3u8-parser expects of every playlist in node_modules: one JSON array on standard output.
// For its own fixtures it ships the expected result as a file; the others it is asked for.
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');
const require = createRequire(import.meta.url);
const { Parser } = require('m3u8-parser');

const fixture = (path) => {
  const module = { exports: {} };
  new Function('module', readFileSync(path, 'utf8'))(module);
  return module.exports;
};

const asked = (text) => {
  const parser = new Parser();
  try {
    parser.push(text);
    parser.end();
  } catch {
    return null;
  }
  return parser.manifest;
};

const range = (byterange) => (byterange ? [byterange.offset, byterange.length] : null);
const hex = (iv) => (iv ? [...iv].map((word) => word.toString(16).padStart(8, '0')).join('') : null);

const media = (manifest) => ({
  media_sequence: manifest.mediaSequence ?? 0,
  discontinuity_sequence: manifest.discontinuitySequence ?? 0,
  end_list: manifest.endList ?? false,
  i_frames_only: manifest.iFramesOnly ?? false,
  playlist_type: manifest.playlistType ?? null,
  target_duration: manifest.targetDuration ?? 0,
  segments: manifest.segments.map((segment) => ({
    uri: segment.uri,
    duration: segment.duration ?? 0,
    byte_range: range(segment.byterange),
    key: segment.key ? { method: segment.key.method, uri: segment.key.uri, iv: hex(segment.key.iv) } : null,
    map: segment.map ? { uri: segment.map.uri, byte_range: range(segment.map.byterange) } : null,
    discontinuity: segment.discontinuity ?? false,
  })),
});

const multivariant = (manifest) => ({
  variants: manifest.playlists.map(({ uri, attributes = {} }) => ({
    uri,
    bandwidth: attributes.BANDWIDTH ?? 0,
    resolution: attributes.RESOLUTION ? [attributes.RESOLUTION.width, attributes.RESOLUTION.height] : null,
    codecs: attributes.CODECS ?? null,
    frame_rate: attributes['FRAME-RATE'] ?? null,
    audio: attributes.AUDIO ?? null,
    subtitles: attributes.SUBTITLES ?? null,
  })),
  renditions: Object.entries(manifest.mediaGroups ?? {}).flatMap(([type, groups]) =>
    Object.entries(groups).flatMap(([group, names]) =>
      Object.entries(names).map(([name, rendition]) => ({
        type,
        group,
        name,
        language: rendition.language ?? null,
        uri: rendition.uri ?? null,
        default: rendition.default ?? false,
        autoselect: rendition.autoselect ?? false,
      })),
    ),
  ),
});

const playlists = readdirSync(here, { recursive: true })
  .filter((path) => /\.m3u8?$/.test(path))
  .sort()
  .map((path) => {
    const file = join(here, path);
    const shipped = path.startsWith('m3u8-parser/');
    const manifest = shipped ? fixture(file.replace(/\.m3u8$/, '.js')) : asked(readFileSync(file, 'utf8'));
    if (!manifest) return { path };
    return manifest.playlists?.length ? { path, multivariant: multivariant(manifest) } : { path, media: media(manifest) };
  });
process.stdout.write(JSON.stringify(playlists));
