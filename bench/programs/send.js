// The files of a folder by "send", which express.static is made of: send.js FOLDER PORT
const http = require('http')
const { createRequire } = require('module')
const send = createRequire(process.cwd() + '/')('send')

const [root, port] = process.argv.slice(2)
const server = http.createServer((request, response) => send(request, request.url, { root }).pipe(response))
server.keepAliveTimeout = 75000
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 })
