#!/usr/bin/env bash
# A real Apache Kafka broker for tests: one process, broker and controller in one, on free ports of 127.0.0.1.
#
#   .ci/kafka.sh start [DIR]   starts one and prints its address, for example 127.0.0.1:23456; one that runs in DIR is used again
#   .ci/kafka.sh secure DIR    starts one that also speaks TLS, with SASL (SCRAM-SHA-512, user `saga`), and prints DIR/secure: what a
#                              client needs is there (ca.pem, password), what it must not trust (strangers-ca.pem), and the
#                              addresses with a certificate that is right, another host's, and expired (right, elsewhere, expired)
#   .ci/kafka.sh stop [DIR]    stops it and removes what it stored
#   .ci/kafka.sh prepare DIR [ADDRESS]
#                              makes all that an empty one needs in DIR and prints where it is going to listen; with ADDRESS
#                              also in a second place, where it tells clients to come to ADDRESS (a proxy's)
#   .ci/kafka.sh run DIR       is the broker of DIR, in the foreground and with what it stored before, for whoever wants to
#                              kill it and start it again
#
# DIR (default: saga-kafka-UID in the folder for temporary files) takes its data and its log, kafka.log. Needs Java 17 and Maven, which
# fetches the broker's files (43 MB) once. By hand:
#
#   export TEST_KAFKA_BOOTSTRAP_SERVERS=$(.ci/kafka.sh start)
#   cargo test -p tests -p messaging
#   .ci/kafka.sh stop
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ready_within_s=90
attempts=3

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

# The broker's process id, if one runs in $dir. The number alone could belong to anybody by now.
running() {
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    ps -o args= -p "$pid" 2>/dev/null | grep -qF "kafka.Kafka $dir/server.properties" || return 1
    echo "$pid"
}

accepts() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Below the range that systems hand out by themselves. Somebody may still take it first: then the start is tried again.
free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 12000))
        accepts "$port" || break
    done
    echo "$port"
}

cluster_id() {
    local id=-
    while [[ $id == -* ]]; do # the tool would take it for an option
        id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 1-22)
    done
    echo "$id"
}

fetch() {
    command -v java >/dev/null || fail "java is missing: apt-get install default-jre-headless"
    command -v mvn >/dev/null || fail "mvn is missing: apt-get install maven"
    [[ -f $dir/libs/.complete ]] && return
    rm -rf "$dir/libs"
    mvn --batch-mode --quiet --file "$here/kafka/pom.xml" \
        dependency:copy-dependencies "-DoutputDirectory=$dir/libs" </dev/null >"$dir/fetch.log" 2>&1 \
        || fail "Maven could not fetch the broker's files: $(tail -n 20 "$dir/fetch.log")"
    touch "$dir/libs/.complete"
}

configure() { # broker port, controller port; optional: client port, the address that clients are told
    local listeners=BROKER://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2 told=BROKER://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2
    if [[ -n ${3-} ]]; then
        listeners+=,CLIENT://127.0.0.1:$3
        told+=,CLIENT://$4
    fi
    cat >"$dir/server.properties" <<-EOF
	process.roles=broker,controller
	node.id=1
	controller.quorum.bootstrap.servers=127.0.0.1:$2
	listeners=$listeners
	advertised.listeners=$told
	listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT
	inter.broker.listener.name=BROKER
	controller.listener.names=CONTROLLER
	log.dirs=$dir/data
	offsets.topic.replication.factor=1
	offsets.topic.num.partitions=4
	transaction.state.log.replication.factor=1
	transaction.state.log.min.isr=1
	share.coordinator.state.topic.replication.factor=1
	share.coordinator.state.topic.min.isr=1
	group.initial.rebalance.delay.ms=0
	auto.create.topics.enable=false
	EOF
    if [[ -d $dir/secure ]]; then configure_secure "$@"; fi
}

# A key and a certificate in one file, which is valid for so many days.
certificate() { # name, subject alternative name, days
    local at=$dir/secure/server
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$at.key" -out "$at.csr" \
        -subj "/CN=$1" -addext "subjectAltName=$2"
    openssl x509 -req -in "$at.csr" -CA "$dir/secure/ca.pem" -CAkey "$dir/secure/ca.key" -days "$3" \
        -copy_extensions copy -out "$at.pem"
    cat "$at.key" "$at.pem" >"$dir/secure/$1.pem"
}

authority() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
        -keyout "$dir/secure/$1.key" -out "$dir/secure/$1.pem"
}

make_certificates() {
    command -v openssl >/dev/null || fail "openssl is missing: apt-get install openssl"
    rm -rf "$dir/secure"
    mkdir -p "$dir/secure"
    {
        authority ca && authority strangers-ca
        certificate right IP:127.0.0.1 2
        certificate elsewhere DNS:elsewhere.example 2
        certificate expired IP:127.0.0.1 -1
    } </dev/null >"$dir/certificates.log" 2>&1 || fail "no certificates: $(tail -n 5 "$dir/certificates.log")"
    head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$dir/secure/password"
}

configure_secure() { # broker port, controller port
    local listeners=BROKER://127.0.0.1:$1 protocols=CONTROLLER:PLAINTEXT,BROKER:PLAINTEXT name port
    for name in right elsewhere expired; do
        port=$(free_port)
        echo "127.0.0.1:$port" >"$dir/secure/$name"
        listeners+=,${name^^}://127.0.0.1:$port
        protocols+=,${name^^}:SASL_SSL
        cat >>"$dir/server.properties" <<-EOF
	listener.name.$name.ssl.keystore.type=PEM
	listener.name.$name.ssl.keystore.location=$dir/secure/$name.pem
	listener.name.$name.sasl.enabled.mechanisms=SCRAM-SHA-512
	listener.name.$name.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
	EOF
    done
    cat >>"$dir/server.properties" <<-EOF
	listeners=$listeners,CONTROLLER://127.0.0.1:$2
	advertised.listeners=$listeners,CONTROLLER://127.0.0.1:$2
	listener.security.protocol.map=$protocols
	EOF
}

# Makes an empty broker's files; leaves its ports in $port and, if clients are told another address, in $client.
make_empty() { # optional: the address that clients are told
    local controller
    port=$(free_port)
    controller=$(free_port)
    client=${1:+$(free_port)}
    [[ $port != "$controller" && $client != "$port" && $client != "$controller" ]] || return 1
    rm -rf "$dir/data"
    configure "$port" "$controller" "$client" "${1-}"
    local users=()
    if [[ -d $dir/secure ]]; then users=(--add-scram "SCRAM-SHA-512=[name=saga,password=$(<"$dir/secure/password")]"); fi
    java -Xmx256m -cp "$dir/libs/*" kafka.tools.StorageTool \
        format --standalone -t "$(cluster_id)" -c "$dir/server.properties" "${users[@]}" </dev/null >"$dir/format.log" 2>&1 || {
        cat "$dir/format.log" >&2
        return 1
    }
}

prepare() {
    mkdir -p "$dir"
    fetch
    make_empty "${1-}" || fail "the broker's files cannot be made"
    echo "127.0.0.1:$port${client:+ 127.0.0.1:$client}"
}

run() {
    exec java -Xmx512m -cp "$dir/libs/*" kafka.Kafka "$dir/server.properties"
}

try_start() {
    local port client pid deadline
    make_empty || return 1
    # in a session of its own: Ctrl-C in the terminal, and the end of this script, are not meant for it
    setsid java -Xmx512m -cp "$dir/libs/*" kafka.Kafka "$dir/server.properties" </dev/null >"$dir/kafka.log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    deadline=$((SECONDS + ready_within_s))
    until grep -q 'Kafka Server started' "$dir/kafka.log" && accepts "$port"; do
        kill -0 "$pid" 2>/dev/null || return 1
        ((SECONDS < deadline)) || { kill -9 "$pid"; return 1; }
        sleep 0.1
    done
    echo "127.0.0.1:$port"
}

start() {
    mkdir -p "$dir"
    if running >/dev/null; then
        sed -n 's|^advertised.listeners=BROKER://\([^,]*\),.*|\1|p' "$dir/server.properties"
        return
    fi
    fetch
    for ((attempt = 1; attempt <= attempts; attempt++)); do
        try_start && return
        echo "kafka.sh: attempt $attempt of $attempts failed; the end of $dir/kafka.log:" >&2
        tail -n 20 "$dir/kafka.log" >&2 || true
    done
    fail "the broker does not start"
}

secure() {
    mkdir -p "$dir"
    if ! running >/dev/null; then make_certificates; fi
    start >/dev/null
    echo "$dir/secure"
}

stop() {
    local pid deadline
    if pid=$(running); then
        kill "$pid"
        deadline=$((SECONDS + 20))
        while running >/dev/null; do
            if ((SECONDS >= deadline)); then kill -9 "$pid"; fi
            sleep 0.1
        done
    fi
    rm -rf "$dir/data" "$dir/secure" "$dir/pid"
}

verb=${1-}
dir=${2:-${TMPDIR:-/tmp}/saga-kafka-$(id -u)}
[[ $dir == /* ]] || dir=$PWD/$dir
case $verb in
start | stop) "$verb" ;;
secure | prepare | run)
    [[ -n ${2-} ]] || fail "say which DIR"
    "$verb" "${3-}"
    ;;
*) fail "say start, secure, stop, prepare or run; see the top of ${BASH_SOURCE[0]}" ;;
esac
