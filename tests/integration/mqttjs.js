// A device with mqtt.js: telemetry up, one command down. Prints one JSON line for each thing that happens.
//
// Usage: NODE_PATH=... node mqttjs.js URL PROTOCOL_VERSION DEVICE_ID USERNAME PASSWORD
'use strict';
const mqtt = require('mqtt');

const [url, version, deviceId, username, password] = process.argv.slice(2);
const tell = (event, more) => console.log(JSON.stringify({ event, ...more }));
const client = mqtt.connect(url, {
  protocolVersion: Number(version),
  clientId: deviceId,
  username,
  password,
  reconnectPeriod: 0,
});

client.on('connect', () => {
  tell('connect');
  client.subscribe(`devices/${deviceId}/commands`, { qos: 1 }, (error, granted) => {
    tell('subscribe', { error: error && error.message, granted: granted && granted.map((one) => one.qos) });
    const options = { qos: 1 };
    if (version === '5') options.properties = { contentType: 'text/plain', userProperties: { from: 'node' } };
    for (let number = 0; number < 100; number += 1) {
      client.publish(`devices/${deviceId}/telemetry`, String(number), options, (failed) => {
        if (failed) tell('publish', { error: failed.message });
      });
    }
  });
});
client.on('message', (topic, message, packet) => {
  tell('message', { topic, text: message.toString(), qos: packet.qos });
  client.end(false, {}, () => tell('end'));
});
client.on('error', (error) => tell('error', { message: error.message, code: error.code }));
