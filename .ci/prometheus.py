"""Books for a while, then asks a Prometheus for everything that dashboards and rules ask for; see .ci/prometheus."""
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

# As Grafana would choose it for so short a time.
RATE_INTERVAL = "20s"
STARTS_LIMIT = 60
# Of ten bookings; the others are normal.
FORCED = {3: "declined", 7: "unavailable"}
# What is only there when something is wrong, or is switched on.
MAY_BE_EMPTY = {
    "Saga engine / Journal kept for A": "without RETENTION_DAYS it is kept for ever",
    "Saga engine / Removed at its age A": "without RETENTION_DAYS nothing is",
    "Saga engine / Inputs that did nothing A": "a reply has to come twice",
    "Saga engine / Shards B": "no shard stands still",
    "Sagas / Came to be stuck A": "no saga is stuck",
    "Sagas / Kept, by reason A": "there is no dead letter",
    "Sagas / Retries of compensations A": "no compensation fails",
    "Saga workers / Dead letters A": "there is no dead letter",
    "Saga workers / Repeats A": "a command has to come twice",
}


def fetch(url, body=None, headers=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def book(api, seconds):
    """Bookings one after the other, a few a second, and what operators look at."""
    user, resource, started = str(uuid.uuid4()), str(uuid.uuid4()), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        forced = FORCED.get(started % 10)
        headers = {"x-forced-payment-outcome": forced} if forced else {}
        status, answer = fetch(f"{api}/api/bookings", {"userId": user, "resourceId": resource}, headers)
        assert status == 201, f"a booking was answered {status}: {answer}"
        fetch(f"{api}/api/bookings/{answer['bookingId']}")
        fetch(f"{api}/api/bookings/{uuid.uuid4()}")  # nobody's: errors are a panel, too
        started += 1
        time.sleep(0.1)
    return started


def query(prometheus, expression):
    """The number of series, or what is wrong."""
    status, answer = fetch(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    if answer["status"] != "success":
        return None, f"{status} {answer.get('error')}"
    found = answer["data"]["result"]
    # A quotient of nothing is no number, and no data.
    return sum(1 for one in found if one["value"][1] != "NaN"), None


def ready(prometheus):
    for _ in range(STARTS_LIMIT):
        try:
            fetch(f"{prometheus}/api/v1/status/runtimeinfo")
            return
        except (urllib.error.URLError, json.JSONDecodeError, ConnectionError):
            time.sleep(0.5)
    sys.exit("prometheus: it does not answer")


def main(prometheus, api, seconds, *boards):
    ready(prometheus)
    wrong, with_data, asked = [], 0, 0
    print(f"{book(api, float(seconds))} bookings in {seconds} s")
    for target in fetch(f"{prometheus}/api/v1/targets")[1]["data"]["activeTargets"]:
        if target["health"] != "up":
            wrong.append(f"{target['labels']['job']} cannot be scraped: {target['lastError']}")
    for path in boards:
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                expression = re.sub(r"\$\w+", ".*", target["expr"].replace("$__rate_interval", RATE_INTERVAL))
                count, error = query(prometheus, expression)
                asked += 1
                with_data += bool(count)
                place = f"{board['title']} / {panel['title']} {target['refId']}"
                rightly = f": {MAY_BE_EMPTY[place]}" if not count and place in MAY_BE_EMPTY else ""
                print(f"  {error or f'{count} series':<12} {place}{rightly}")
                if error:
                    wrong.append(f"{place}: {error}")
                elif not count and not rightly:
                    wrong.append(f"{place}: no data")
    print(f"dashboards: {with_data} of {asked} queries gave data")
    rules = [rule for group in fetch(f"{prometheus}/api/v1/rules")[1]["data"]["groups"] for rule in group["rules"]]
    for rule in rules:
        _, error = query(prometheus, rule["query"])
        print(f"  {rule['state']:<12} {rule['name']}")
        if error or rule["health"] != "ok":
            wrong.append(f"{rule['name']}: {error or rule['lastError'] or rule['health']}")
    print(f"alerts: {len(rules)} rules evaluated, {sum(rule['state'] != 'inactive' for rule in rules)} not inactive")
    if not rules:
        wrong.append("there are no rules")
    if wrong:
        sys.exit("\n".join(f"prometheus: {one}" for one in wrong))


main(*sys.argv[1:])
