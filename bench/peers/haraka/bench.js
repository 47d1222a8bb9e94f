'use strict'
// The only plugin besides tls: take every recipient, look nothing up, and leave the mail in the queue or hand
// it to the next hops that the environment names. Accepting is Haraka's own outbound queue: a file for each
// message, synced and renamed before the 250.

const constants = require('haraka-constants')

const hops = JSON.parse(process.env.BENCH_HOPS || '[]')

exports.hook_lookup_rdns = function (next) {
    next(constants.ok, 'client.example')
}

exports.hook_connect = function (next, connection) {
    connection.relaying = true
    next()
}

exports.hook_rcpt = function (next) {
    next(constants.ok)
}

exports.hook_send_email = function (next) {
    if (hops.length === 0) return next(constants.delay, 3600)
    next()
}

exports.hook_get_mx = function (next) {
    const mx = hops.map(([exchange, port], index) => ({ priority: index, exchange, port }))
    next(constants.ok, mx)
}
