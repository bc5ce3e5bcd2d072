-- A database for each service, which nobody else reads. Run once, when the server's data folder is made.
CREATE DATABASE orchestrator;
CREATE DATABASE booking;
CREATE DATABASE payment;
