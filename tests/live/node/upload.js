// Uploads a file with tus-js-client, as a program of a user would:
//
//     node upload.js '{"endpoint": "…/api/uploads", "token": "…", "file": "clip.mp4", "chunkSize": 8388608}'
//
// `stream` hands the file over as a stream that nobody knows the length of, `storage` names the file in
// which the client remembers its uploads; all else are the client's own options. Prints one line of JSON.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { PassThrough } = require('node:stream');
const tus = require('tus-js-client');

const { endpoint, token, file, stream, storage, ...options } = JSON.parse(process.argv[2]);
const requests = [];

const source = fs.createReadStream(file);
const upload = new tus.Upload(stream ? source.pipe(new PassThrough()) : source, {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: path.basename(file), filetype: 'video/mp4' },
  ...(storage && { urlStorage: new tus.FileUrlStorage(storage) }),
  ...options,
  onBeforeRequest(request) {
    requests.push(request.getMethod());
  },
  onSuccess({ lastResponse }) {
    const videoLocation = lastResponse.getHeader('Video-Location');
    console.log(JSON.stringify({ uploadUrl: upload.url, videoLocation, requests }));
  },
  onError(error) {
    console.error(String(error));
    process.exitCode = 1;
  },
});

upload.findPreviousUploads().then(([previous]) => {
  if (previous) upload.resumeFromPreviousUpload(previous);
  upload.start();
});
