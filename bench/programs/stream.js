// The files of a folder as tutorials do it, by fs.createReadStream and a Range taken apart by hand:
// stream.js FOLDER PORT
const fs = require('fs')
const http = require('http')
const path = require('path')

const [root, port] = process.argv.slice(2)
const types = { '.mp4': 'video/mp4', '.json': 'application/json' }
const server = http.createServer((request, response) => {
  const file = path.join(root, path.basename(request.url))
  fs.stat(file, (error, stat) => {
    if (error) {
      response.writeHead(404, { 'Content-Length': 0 })
      response.end()
      return
    }
    const head = { 'Content-Type': types[path.extname(file)], 'Accept-Ranges': 'bytes', 'Content-Length': stat.size }
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range || '')
    let options = {}
    if (range) {
      const start = Number(range[1])
      const end = range[2] ? Math.min(Number(range[2]), stat.size - 1) : stat.size - 1
      head['Content-Range'] = `bytes ${start}-${end}/${stat.size}`
      head['Content-Length'] = end - start + 1
      options = { start, end }
    }
    response.writeHead(range ? 206 : 200, head)
    const stream = fs.createReadStream(file, options)
    response.on('close', () => stream.destroy())
    stream.pipe(response)
  })
})
server.keepAliveTimeout = 75000
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 })
