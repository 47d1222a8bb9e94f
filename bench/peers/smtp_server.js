'use strict'
// npm's smtp-server as a mail server of its own: every message becomes a file, synced before the 250, by two
// processes that share the listening socket. As with Postfix, the file is synced and its folder is not.
//
// usage: node smtp_server.js '{"address": ..., "port": ..., "folder": ..., "processes": 2, "tls": {...} | null}'

const cluster = require('node:cluster')
const fs = require('node:fs')
const path = require('node:path')
const { SMTPServer } = require('smtp-server')

const settings = JSON.parse(process.argv[2])

if (cluster.isPrimary) {
    for (let number = 0; number < settings.processes; number++) cluster.fork()
    cluster.on('exit', () => process.exit(1))
} else {
    serve()
}

function serve() {
    let count = 0
    const tls = settings.tls && {
        key: fs.readFileSync(settings.tls.key),
        cert: fs.readFileSync(settings.tls.certificate),
    }
    const server = new SMTPServer({
        ...(tls || {}),
        authOptional: true,
        disabledCommands: tls ? ['AUTH'] : ['AUTH', 'STARTTLS'],
        disableReverseLookup: true,
        logger: false,
        size: 52428800,
        onData(stream, session, callback) {
            const name = path.join(settings.folder, `${process.pid}-${++count}`)
            store(stream, name, callback)
        },
    })
    server.on('error', (error) => console.error(error.message))
    server.listen({ port: settings.port, host: settings.address, backlog: 1024 })
}

function store(stream, name, callback) {
    const file = fs.createWriteStream(name, { flags: 'wx', flush: true }) // flush: fsync before close
    file.on('error', callback)
    file.on('close', () => callback(null, 'stored'))
    stream.pipe(file)
}
