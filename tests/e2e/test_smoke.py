def test_smoke(system, name):
    try:
        system.settle(3)
    except AssertionError:
        print(system.log("routing",100000)[:1500])
        for t in ("tally", "set_aside", "inbox", "leg", "outbox"):
            print(t, system.sql("routing", f"select * from {t}"))
        print(system.sql("gateway", "select id, sequence, merged_into from contact"))
        raise
    print(system.get("/v1/reports/queues", source="~settle").ok())
    system.settle()
    print([k for k in system.metrics() if "inbox" in k])
    print(system.answerline("dlq", "list").stdout)
